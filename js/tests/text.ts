// Views of text to look at in tests: any of them over a model that is nobody, shown in the page.
import type { Model } from "../tiles.ts";
import { colour, styled } from "./attention.ts";

export { colour, styled };

interface Widget {
  render(context: { model: Model; el: HTMLElement }): Promise<() => void>;
}

const open: (() => void)[] = [];

export async function show(widget: Widget, model: Model, width = 1100) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const cleanup = await widget.render({ model, el });
  const end = () => {
    cleanup();
    el.remove();
  };
  open.push(end);
  const all = (selector: string) => [...el.querySelectorAll<HTMLElement>(selector)];
  const one = <E extends HTMLElement = HTMLElement>(selector: string) => {
    const found = el.querySelector<E>(selector);
    if (!found) throw new Error(`nothing is ${selector}`);
    return found;
  };
  return {
    el,
    end,
    all,
    one,
    text: (selector: string) => one(selector).textContent.replace(/\s+/g, " ").trim(),
    /** The token at a position, if it is drawn. */
    token: (at: number) => one(`.iw-flow [data-at="${at}"]`),
    /** The text that is drawn, token by token. */
    tokens: () => all(".iw-flow [data-at]").map((token) => token.textContent),
    flow: () => one(".iw-flow"),
  };
}

export function endAll() {
  for (const end of open.splice(0)) end();
  document.documentElement.removeAttribute("style");
}

/** A palette's colour as CSS writes it. */
export const rgb = (name: Parameters<typeof colour>[0], at: number) =>
  `rgb(${colour(name, at).slice(0, 3).join(", ")})`;

/** Tokens as one chunk of them, the way Python sends it. */
export const chunkOf = (tokens: string[], chunk: number) => ({
  text: tokens.slice(1024 * chunk, 1024 * (chunk + 1)),
  ids: tokens.slice(1024 * chunk, 1024 * (chunk + 1)).map((_, i) => 1024 * chunk + i),
  special: [],
});
