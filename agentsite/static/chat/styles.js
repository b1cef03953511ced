/** How it looks. A page changes it by the variables `--agent-chat-*`, and its height by the element's own. */

const THEME = `
:host {
  --surface: var(--agent-chat-background, light-dark(#ffffff, #17181c));
  --raised: var(--agent-chat-surface, light-dark(#f4f5f8, #212329));
  --ink: var(--agent-chat-text, light-dark(#1b1d23, #e9eaee));
  --quiet: var(--agent-chat-muted, light-dark(#5b606e, #a3a8b6));
  --line: var(--agent-chat-border, light-dark(#dfe1e8, #34373f));
  --edge: light-dark(#858b9b, #7b8192);
  --accent: var(--agent-chat-accent, light-dark(#4f46e5, #a5a6ff));
  --on-accent: var(--agent-chat-accent-text, light-dark(#ffffff, #17181c));
  --mine: var(--agent-chat-mine, light-dark(#ececfd, #2d2e4d));
  --bad: var(--agent-chat-danger, light-dark(#b42318, #ff9c92));
  --bad-surface: light-dark(#fef1f0, #3a2020);
  --good: light-dark(#146c43, #7fd4a5);
  --warn: light-dark(#8a4b08, #f2c078);
  --warn-surface: light-dark(#fff6e9, #342a1b);
  --code: var(--agent-chat-code, light-dark(#f4f5f8, #101115));
  --radius: var(--agent-chat-radius, 14px);
  --measure: var(--agent-chat-width, 46rem);
  color-scheme: light dark;
  display: block;
  height: 100%;
  min-height: 16rem;
  container-type: inline-size;
  background: var(--surface);
  color: var(--ink);
  font: var(--agent-chat-font, 400 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif);
}
:host([theme="light"]) { color-scheme: light; }
:host([theme="dark"]) { color-scheme: dark; }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.icon { width: 1.1em; height: 1.1em; flex: none; fill: none; stroke: currentColor; stroke-width: 1.9; stroke-linecap: round; stroke-linejoin: round; }
button { font: inherit; color: inherit; cursor: pointer; background: none; border: 1px solid transparent; border-radius: 9px; padding: 0; }
button:disabled { cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
p { margin: 0; }
`;

const FRAME = `
.chat { display: grid; grid-template: auto auto minmax(0, 1fr) auto / minmax(0, 1fr); height: 100%; }
.banner { display: none; padding: .5rem 1rem; text-align: center; font-size: .875rem; background: var(--warn-surface); color: var(--warn); border-block-end: 1px solid var(--line); }
.banner.shown { display: block; }
.banner.final { background: var(--bad-surface); color: var(--bad); }
.faces { display: flex; justify-content: flex-end; gap: 0; margin: 0; padding: .4rem 1rem; list-style: none; border-block-end: 1px solid var(--line); }
.faces li { display: grid; place-items: center; width: 1.9rem; height: 1.9rem; margin-inline-start: -.35rem; border: 2px solid var(--surface); border-radius: 50%; background: var(--mine); font-size: .7rem; font-weight: 600; }
.thread { position: relative; grid-row: 3; min-height: 0; }
.log { height: 100%; overflow: hidden auto; overscroll-behavior: contain; padding: 1.25rem 1rem; }
.log:focus-visible { outline-offset: -3px; }
.welcome { display: grid; place-content: center; height: 100%; text-align: center; font-size: 1.5rem; font-weight: 600; letter-spacing: -.01em; }
.turns { display: grid; grid-template-columns: minmax(0, 1fr); gap: .9rem; max-width: var(--measure); margin-inline: auto; }
.newest { position: absolute; inset-block-end: .75rem; inset-inline: 0; width: max-content; margin-inline: auto; display: flex; align-items: center; gap: .4rem; padding: .35rem .85rem; border-color: var(--line); border-radius: 99px; background: var(--surface); box-shadow: 0 4px 16px rgb(0 0 0 / .16); font-size: .875rem; }
.foot { grid-row: 4; padding: 0 1rem max(1rem, env(safe-area-inset-bottom)); }
.composer, .line { max-width: var(--measure); margin-inline: auto; }
.line { display: flex; align-items: center; justify-content: space-between; gap: .5rem; }
.fresh { flex: none; min-height: 1.6rem; padding-inline: .5rem; font-size: .8125rem; color: var(--quiet); }
.fresh:hover { background: var(--raised); color: var(--ink); }
.typing { min-width: 0; min-height: 1.3rem; font-size: .8125rem; line-height: 1.3rem; color: var(--quiet); padding-inline: .5rem; }
.box { display: flex; align-items: flex-end; gap: .4rem; padding: .4rem; border: 1px solid var(--edge); border-radius: calc(var(--radius) + 10px); background: var(--surface); box-shadow: 0 2px 10px rgb(0 0 0 / .06); }
.box:focus-within { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent); }
.box textarea { flex: 1; min-width: 0; max-height: 12rem; padding: .4rem .25rem .4rem .75rem; resize: none; border: 0; outline: 0; background: none; color: inherit; font: inherit; line-height: 1.5; overflow-y: auto; }
textarea::placeholder, input::placeholder { color: var(--quiet); opacity: 1; }
.round { display: grid; place-items: center; flex: none; width: 2.4rem; height: 2.4rem; border-radius: 50%; }
.primary { background: var(--accent); color: var(--on-accent); }
.primary:hover:not(:disabled) { filter: brightness(1.08); }
.primary:disabled { background: var(--raised); color: var(--quiet); }
.stop { border-color: var(--edge); }
.stop .icon { fill: currentColor; }
.note { padding: .8rem; text-align: center; color: var(--quiet); background: var(--raised); border-radius: var(--radius); font-size: .9375rem; }
.fault:empty, .note:empty, .status:empty { display: none; }
.fault { margin-block: .25rem .5rem; padding-inline: .5rem; color: var(--bad); font-size: .875rem; overflow-wrap: anywhere; }
`;

const TURNS = `
.turn { position: relative; min-width: 0; border-radius: var(--radius); }
.turn:focus-visible { outline-offset: 6px; }
.turn.sought:focus { outline: 2px solid var(--accent); outline-offset: 6px; }
.author { font-size: .8125rem; font-weight: 600; color: var(--quiet); overflow-wrap: anywhere; }
.said { display: grid; justify-items: start; gap: .2rem; max-width: 85%; justify-self: start; }
.said.mine { justify-self: end; justify-items: end; }
.said.mine .author { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.bubble { max-width: 100%; padding: .6rem 1rem; border-radius: var(--radius); border-start-start-radius: 4px; background: var(--raised); white-space: pre-wrap; overflow-wrap: anywhere; text-align: start; }
.mine .bubble { background: var(--mine); border-start-start-radius: var(--radius); border-end-end-radius: 4px; }
.said[data-status="sending"] .bubble { opacity: .75; }
.status { font-size: .75rem; color: var(--quiet); }
.editing { width: min(34rem, 100cqi - 2rem); display: grid; gap: .5rem; }
.editing .notice:empty { display: none; }
.editing .row { justify-content: flex-end; }
.answer { display: grid; grid-template-columns: 1.9rem minmax(0, 1fr); gap: .75rem; }
.avatar { display: grid; place-items: center; width: 1.9rem; height: 1.9rem; border-radius: 50%; background: var(--accent); color: var(--on-accent); font-size: .9rem; }
.answer-body { display: grid; grid-template-columns: minmax(0, 1fr); gap: .4rem; padding-block-start: .2rem; }
.parts { display: grid; grid-template-columns: minmax(0, 1fr); gap: .7rem; }
.parts:empty { display: none; }
.actions { display: flex; flex-wrap: wrap; gap: .1rem; margin-block: -.25rem -.7rem; margin-inline-start: -.4rem; opacity: 0; transition: opacity .12s; }
.said .actions { margin-inline-end: -.4rem; }
.turn:last-child .actions, .turn:hover .actions, .turn:focus-within .actions, .turn:focus .actions { opacity: 1; }
@media (hover: none) { .actions { opacity: 1; } }
.chat:not(.can-fork) button:has(.icon-fork) { display: none; }
.icon-button { display: grid; place-items: center; width: 2rem; height: 2rem; color: var(--quiet); }
.actions .icon-button { height: 1.6rem; }
.icon-button:hover { background: var(--raised); color: var(--ink); }
.icon-button[aria-pressed="true"] { color: var(--accent); }
.icon-button[aria-pressed="true"] .icon { fill: color-mix(in srgb, var(--accent) 30%, transparent); }
.plain-button, .approval .primary, .editing .primary { display: inline-flex; align-items: center; gap: .4rem; min-height: 2.1rem; padding: .25rem .9rem; font-size: .9rem; }
.plain-button { border-color: var(--edge); background: var(--surface); }
.plain-button:hover { background: var(--raised); }
.row { display: flex; flex-wrap: wrap; gap: .5rem; }
.notice { color: var(--quiet); font-size: .9rem; font-style: italic; }
.failure { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem; padding: .6rem .9rem; border: 1px solid color-mix(in srgb, var(--bad) 40%, transparent); border-radius: var(--radius); background: var(--bad-surface); color: var(--bad); font-size: .9375rem; }
.fault-text { flex: 1 1 12rem; overflow-wrap: anywhere; }
.failure .plain-button { color: var(--ink); }
.dots { display: flex; gap: .3rem; padding-block: .55rem; }
.dots i { width: .45rem; height: .45rem; border-radius: 50%; background: var(--quiet); animation: beat 1.2s infinite ease-in-out; }
.dots i:nth-child(2) { animation-delay: .15s; }
.dots i:nth-child(3) { animation-delay: .3s; }
@keyframes beat { 0%, 60%, 100% { opacity: .3; } 30% { opacity: 1; transform: translateY(-2px); } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`;

const FOLDS = `
.fold { border: 1px solid var(--line); border-radius: 10px; font-size: .9rem; background: var(--surface); }
.fold > summary { display: flex; align-items: center; gap: .5rem; min-height: 2.4rem; padding: .3rem .75rem; cursor: pointer; list-style: none; border-radius: 10px; }
.fold > summary::-webkit-details-marker { display: none; }
.fold > summary:hover { background: var(--raised); }
.fold-name { font-weight: 600; overflow-wrap: anywhere; min-width: 0; }
.tool .fold-name { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: .85rem; }
.fold-state { margin-inline-start: auto; color: var(--quiet); font-size: .8125rem; white-space: nowrap; }
.fold > summary > .icon { color: var(--quiet); }
.icon-open { transition: transform .15s; }
:dir(rtl) .icon-open { transform: scaleX(-1); }
.fold[open] > summary > .icon-open { transform: rotate(90deg); }
.fold-body { display: grid; grid-template-columns: minmax(0, 1fr); gap: .6rem; padding: .25rem .75rem .75rem; }
.fold.busy > summary .fold-name { animation: shine 1.6s infinite ease-in-out; }
@keyframes shine { 50% { opacity: .55; } }
[data-state="failed"] .fold-state, .failed > summary .fold-state { color: var(--bad); }
[data-state="done"] .fold-state { color: var(--good); }
[data-state="asks"] .fold-state { color: var(--warn); }
.reasoning { border: 0; background: none; }
.reasoning > summary { padding-inline: 0; color: var(--quiet); min-height: 2rem; }
.reasoning > summary:hover { background: none; color: var(--ink); }
.reasoning .fold-name { font-weight: 500; }
.reasoning .fold-state { display: none; }
.reasoning > .fold-body { padding-inline: 1rem; border-inline-start: 2px solid var(--line); margin-inline-start: .5rem; }
.thoughts { white-space: pre-wrap; overflow-wrap: anywhere; color: var(--quiet); }
.section h4 { margin: 0 0 .25rem; font-size: .75rem; font-weight: 600; color: var(--quiet); }
.section pre { margin: 0; max-height: 18rem; overflow: auto; padding: .6rem .75rem; border-radius: 8px; background: var(--code); font: .8125rem/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.tool-call { display: grid; grid-template-columns: minmax(0, 1fr); gap: .5rem; }
.approval { display: grid; grid-template-columns: minmax(0, 1fr); gap: .6rem; padding: .85rem 1rem; border: 1px solid color-mix(in srgb, var(--warn) 45%, transparent); border-radius: var(--radius); background: var(--warn-surface); font-size: .9375rem; }
.question { font-weight: 600; overflow-wrap: anywhere; }
.rules { font-size: .8125rem; color: var(--quiet); }
.approval .fault { margin: 0; padding: 0; }
.edit, .approval input { width: 100%; padding: .5rem .75rem; border: 1px solid var(--edge); border-radius: 8px; background: var(--surface); color: inherit; font: inherit; }
.edit { min-height: 4.5rem; resize: vertical; }
.approval .edit { font: .8125rem/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; min-height: 3rem; }
.outcome { display: flex; align-items: center; gap: .4rem; font-size: .8125rem; color: var(--quiet); overflow-wrap: anywhere; }
`;

const MARKDOWN = `
.markdown { display: grid; grid-template-columns: minmax(0, 1fr); gap: .75rem; overflow-wrap: anywhere; }
.markdown:empty { display: none; }
.markdown.refusal { color: var(--bad); }
.markdown h3, .markdown h4, .markdown h5, .markdown h6 { margin: .5rem 0 0; line-height: 1.3; letter-spacing: -.01em; }
.heading-1 { font-size: 1.4rem; } .heading-2 { font-size: 1.2rem; } .heading-3 { font-size: 1.05rem; }
.heading-4, .heading-5, .heading-6 { font-size: 1rem; }
.markdown ul, .markdown ol { margin: 0; padding-inline-start: 1.5rem; }
.markdown li + li { margin-block-start: .3rem; }
.markdown li > p + *, .markdown li > ul, .markdown li > ol, .markdown li > .code { margin-block-start: .4rem; }
.markdown .task { list-style: none; margin-inline-start: -1.4rem; }
.task input { width: 1rem; height: 1rem; margin: 0 .45rem 0 0; margin-inline: 0 .45rem; vertical-align: -.1rem; accent-color: var(--accent); }
.markdown blockquote { display: grid; gap: .5rem; margin: 0; padding-inline-start: 1rem; border-inline-start: 3px solid var(--line); color: var(--quiet); }
.markdown hr { width: 100%; margin: .4rem 0; border: 0; border-block-start: 1px solid var(--line); }
.markdown a { color: var(--accent); text-underline-offset: .15em; }
.external .icon, .image .icon { width: .8em; height: .8em; margin-inline-start: .2em; vertical-align: -.05em; }
.image .icon { width: 1em; height: 1em; margin-inline: 0 .3em; }
.plain { white-space: pre-wrap; }
.markdown :not(pre) > code { padding: .12em .35em; border-radius: 5px; background: var(--code); border: 1px solid var(--line); font: .875em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
.code { border: 1px solid var(--line); border-radius: 10px; overflow: hidden; background: var(--code); text-align: left; }
.code-head { display: flex; align-items: center; justify-content: space-between; padding: .15rem .3rem .15rem .9rem; border-block-end: 1px solid var(--line); font-size: .75rem; color: var(--quiet); }
.language { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.copy-code { display: grid; place-items: center; width: 2rem; height: 1.9rem; font-size: .85rem; }
.copy-code:hover { background: var(--raised); color: var(--ink); }
.code pre { margin: 0; padding: .8rem .9rem; overflow-x: auto; font: .84375rem/1.6 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; tab-size: 4; overflow-wrap: normal; }
.code pre:focus-visible, .table:focus-visible { outline-offset: -2px; }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; }
.table table { border-collapse: collapse; width: 100%; font-size: .9375rem; overflow-wrap: normal; }
.table th, .table td { padding: .45rem .8rem; text-align: start; border-block-end: 1px solid var(--line); min-width: 5rem; vertical-align: top; }
.table th { background: var(--raised); font-weight: 600; }
.table tr:last-child td { border-block-end: 0; }
.table [data-align="center"] { text-align: center; } .table [data-align="right"] { text-align: end; } .table [data-align="left"] { text-align: start; }
`;

const NARROW = `
@container (max-width: 32rem) {
  .log { padding: .9rem .75rem; }
  .foot { padding-inline: .6rem; padding-block-end: max(.6rem, env(safe-area-inset-bottom)); }
  .answer { grid-template-columns: minmax(0, 1fr); }
  .avatar { display: none; }
  .said { max-width: 92%; }
}
@media (forced-colors: active) {
  .bubble, .box, .fold, .approval, .failure, .code, .avatar, .primary { border: 1px solid CanvasText; }
  .icon { stroke: currentColor; }
  .dots i { background: CanvasText; }
  .icon-button[aria-pressed="true"] { outline: 2px solid Highlight; }
}
`;

export const sheet = new CSSStyleSheet();
sheet.replaceSync([THEME, FRAME, TURNS, FOLDS, MARKDOWN, NARROW].join(""));
