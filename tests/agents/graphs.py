"""Templates of an imagined author, as they would lie in a folder of TEMPLATE_DIRS."""

STATE_GRAPH = """
from templates_app.base import TemplateConfig
from templates_app.langgraph import LangGraphTemplate

built = []


class Config(TemplateConfig):
    suffix: str = "!"


class Shout(LangGraphTemplate):
    slug = "shout"
    version = "1.0.0"
    title = "Shout"
    Config = Config

    def graph(self, config, model, tools):
        from langchain_core.messages import AIMessage
        from langgraph.config import get_stream_writer
        from langgraph.graph import END, START, MessagesState, StateGraph

        built.append(config.suffix)

        async def think(state: MessagesState):
            get_stream_writer()({"name": "mood", "value": {"loud": True}})
            return {"messages": [await model.ainvoke(state["messages"])]}

        async def shout(state: MessagesState):
            return {"messages": [AIMessage(state["messages"][-1].text.upper() + config.suffix)]}

        graph = StateGraph(MessagesState)
        graph.add_node("think", think)
        graph.add_node("shout", shout)
        graph.add_edge(START, "think")
        graph.add_edge("think", "shout")
        graph.add_edge("shout", END)
        return graph


class Endless(LangGraphTemplate):
    slug = "endless"
    version = "1.0.0"
    title = "Endless"
    recursion_limit = 5

    def graph(self, config, model, tools):
        from langgraph.graph import START, MessagesState, StateGraph

        graph = StateGraph(MessagesState)
        graph.add_node("again", lambda state: {})
        graph.add_edge(START, "again")
        graph.add_edge("again", "again")
        return graph


class Unbuildable(LangGraphTemplate):
    slug = "unbuildable"
    version = "1.0.0"
    title = "Unbuildable"

    def graph(self, config, model, tools):
        from llm.binding import current_binding

        assert current_binding() is None, "a build must not see the run that it is made for"
        raise RuntimeError("no graph today")
"""

CREATE_AGENT = """
from templates_app.langgraph import LangGraphTemplate


class Worker(LangGraphTemplate):
    slug = "worker"
    version = "1.0.0"
    title = "Worker"

    def graph(self, config, model, tools):
        from langchain.agents import create_agent

        return create_agent(model, tools=tools)
"""
