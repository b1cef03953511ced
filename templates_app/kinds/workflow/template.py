from collections.abc import Sequence

from core.errors import ApplicationError
from templates_app.chat import with_instructions
from templates_app.context import AgentContext
from templates_app.kinds.workflow.config import WorkflowConfig, WorkflowStep
from templates_app.stepwise.conditions import holds
from templates_app.stepwise.journal import Result
from templates_app.stepwise.template import Progress, StepwiseTemplate, history, talk_of, user_message
from templates_app.stepwise.texts import Values, names_input, rendered


class WorkflowTemplate(StepwiseTemplate):
    slug = "workflow"
    version = "1.0.0"
    title = "Workflow"
    description = "Asks the model a list of prompts in order; later ones use what earlier ones gave, under conditions."
    Config = WorkflowConfig
    event = "workflow_progress"

    def steps(self, config: WorkflowConfig) -> Sequence[WorkflowStep]:
        return config.steps

    def says_answer(self, step: WorkflowStep, config: WorkflowConfig) -> bool:
        return config.output == "last" and step is config.steps[-1]

    async def perform(self, step: WorkflowStep, run: Progress) -> Result:
        """A failure of the model is the run's."""
        if step.when and not holds(step.when, run.values):
            return {"status": "skipped", "output": ""}
        context: AgentContext = run.context
        prompt = user_message(rendered(step.prompt, run.values), context, with_media=names_input(step.prompt))
        asked = [*history(context, context.config.history_turns), prompt]
        talk = talk_of(
            step,
            run,
            with_instructions(context.instructions, asked),
            temperature=step.temperature,
            max_tokens=step.max_tokens,
        )
        try:
            said = await talk.answer()
        except ApplicationError as error:
            if f"'{step.name}'" not in error.message:
                error.message = f"The step '{step.name}' failed: {error.message}"
            raise
        return {"status": "ok", "output": said.answer.get("content") or "", "finish_reason": said.finish_reason}

    def conclude(self, config: WorkflowConfig, values: Values) -> tuple[str, str]:
        results = values.results
        match config.output:
            case "template":
                return rendered(config.output_template, values), "stop"
            case "all":
                return "\n\n".join(_section(step.name, results[step.name]) for step in config.steps), "stop"
        done = [results[step.name] for step in config.steps if results[step.name]["status"] == "ok"]
        if not done:
            return "Every step was skipped: no condition held.", "stop"
        return done[-1]["output"], done[-1]["finish_reason"]


def _section(name: str, result: Result) -> str:
    return f"## {name}\n\n" + (result["output"] if result["status"] == "ok" else "Skipped: its condition did not hold.")
