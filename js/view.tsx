// The lifecycle every view shares: a Preact tree over a model, its traits as state, its tiles on demand.
import { Component, type ComponentChildren, type ComponentType, createContext, render } from "preact";
import { useContext, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { type Model, type Tile, Tiles } from "./tiles.ts";

interface Shared {
  model: Model;
  tiles: Tiles;
  el: HTMLElement;
}

const Context = createContext<Shared>(null!);
export const useShared = () => useContext(Context);

/** Lengths in CSS pixels, as the text of a style: Preact sets it in one step. */
export const px = (lengths: Record<string, number>) =>
  Object.entries(lengths)
    .map(([name, length]) => `${name}:${length}px`)
    .join(";");

const useCount = () => useReducer((count: number, _: void) => count + 1, 0);

/** The model's traits, and how to set some of them: at once here, then in Python and every other view of the model. */
export function useTraits<T extends object>(names: readonly (keyof T & string)[]): [T, (some: Partial<T>) => void] {
  const { model } = useShared();
  const [, redraw] = useCount();
  useLayoutEffect(() => {
    const changed = () => redraw();
    for (const name of names) model.on(`change:${name}`, changed);
    return () => names.forEach((name) => model.off(`change:${name}`, changed));
  }, [model]);
  const traits = Object.fromEntries(names.map((name) => [name, model.get(name)])) as T;
  const set = (some: Partial<T>) => {
    for (const [name, value] of Object.entries(some)) model.set(name, value);
    model.save_changes();
    redraw();
  };
  return [traits, set];
}

export interface Asked {
  get(key: string): Tile | undefined;
  error(key: string): Error | undefined;
  errors: string[];
  missing: number;
  came: number; // how often some of them came: what was made of them is then made again
}

/** Ask for tiles, in order of importance, and be drawn again as they come. */
export function useTiles(keys: string[]): Asked {
  const { tiles } = useShared();
  const [came, redraw] = useCount();
  const owner = useRef({}).current;
  const wanted = keys.join("\n");
  useLayoutEffect(() => {
    tiles.want(owner, keys);
    return tiles.subscribe((those) => keys.some((key) => those.has(key)) && redraw());
  }, [tiles, wanted]);
  useLayoutEffect(() => () => tiles.want(owner, []), [tiles]);
  const errors = keys.flatMap((key) => tiles.error(key)?.message ?? []);
  const missing = keys.filter((key) => !tiles.peek(key)).length - errors.length;
  return {
    get: (key) => tiles.peek(key),
    error: (key) => tiles.error(key),
    errors: [...new Set(errors)],
    missing,
    came,
  };
}

/** Whether Python has been silent for a while: the kernel is busy, or gone. */
export function useSilence(): boolean {
  const { tiles } = useShared();
  const [silent, setSilent] = useState(tiles.silent);
  useLayoutEffect(() => tiles.subscribe(() => setSilent(tiles.silent)), [tiles]);
  return silent;
}

/** Whether the host is dark: the text is lighter than half. Follows the theme when it changes. */
export function useDark(): boolean {
  const { el } = useShared();
  const [dark, setDark] = useState(() => isDark(el));
  useLayoutEffect(() => {
    const look = () => setDark(isDark(el));
    const media = matchMedia("(prefers-color-scheme: dark)");
    let later: ReturnType<typeof setTimeout> | undefined;
    const watch = new MutationObserver(() => {
      clearTimeout(later);
      later = setTimeout(look, 50); // the theme's style sheet comes after its name
    });
    for (const node of [document.documentElement, document.body]) watch.observe(node, { attributes: true });
    media.addEventListener("change", look);
    return () => {
      watch.disconnect();
      clearTimeout(later);
      media.removeEventListener("change", look);
    };
  }, [el]);
  return dark;
}

function isDark(el: HTMLElement): boolean {
  const [r = 0, g = 0, b = 0] = (getComputedStyle(el).color.match(/[\d.]+/g) ?? []).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 128;
}

export const NARROW = 720; // CSS pixels: below, a view stacks what it else puts side by side

/** The width there is, as it changes. */
export function useWidth(): number {
  const { el } = useShared();
  const [width, setWidth] = useState(el.clientWidth || 800);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => el.clientWidth && setWidth(el.clientWidth));
    watch.observe(el);
    return () => watch.disconnect();
  }, [el]);
  return width;
}

/** A widget whose whole view is one component. */
export function view(View: ComponentType) {
  return {
    async render({ model, el, signal }: { model: Model; el: HTMLElement; signal?: AbortSignal }) {
      const end = new AbortController();
      signal?.addEventListener("abort", () => end.abort());
      el.classList.add("interpwidgets");
      el.dataset.lmSuppressShortcuts = "true"; // JupyterLab: the keys we use are ours while the focus is here
      const tiles = new Tiles(model, end.signal);
      await tiles.open(model.get("_opening"));
      render(
        <Context.Provider value={{ model, tiles, el }}>
          <Guard>
            <View />
          </Guard>
        </Context.Provider>,
        el,
      );
      el.addEventListener("keydown", (event) => undo(model, event), { signal: end.signal });
      if (model.get("_live")) tiles.hello();
      return () => {
        end.abort();
        render(null, el);
      };
    },
  };
}

/** Ctrl+Z and Ctrl+Shift+Z, where no text is being written. */
function undo(model: Model, event: KeyboardEvent) {
  const writing = (event.target as HTMLElement).matches("input, textarea, [contenteditable]");
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || writing) return;
  event.preventDefault();
  model.send({ undo: !event.shiftKey });
}

/** Errors are shown where the reader looks: in the output, not in the console. */
class Guard extends Component<{ children: ComponentChildren }, { error?: string }> {
  override componentDidCatch(error: unknown) {
    this.setState({ error: error instanceof Error ? error.message : "unknown error" });
  }
  render() {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <pre class="iw-error" role="alert">
        {`This view failed: ${error}\nRun the cell again to reopen it.`}
      </pre>
    );
  }
}
