// A page is a host too: the same views, over a model that nobody runs. Its tiles came with it.
import type { Model } from "./tiles.ts";

interface Widget {
  render(context: { model: Model; el: HTMLElement; signal: AbortSignal }): unknown;
}
type State = Record<string, unknown> & { _opening: { data: string | DataView }[] };
type Listener = (...args: unknown[]) => void;

export async function mount(widget: Widget, el: HTMLElement, state: State): Promise<Model> {
  for (const entry of state._opening) {
    const bytes = Uint8Array.from(atob(entry.data as string), (character) => character.charCodeAt(0));
    entry.data = new DataView(bytes.buffer);
  }
  const listeners = new Map<string, Set<Listener>>();
  const emit = (event: string, ...args: unknown[]) => listeners.get(event)?.forEach((listener) => listener(...args));
  const model: Model = {
    get: <T>(name: string) => state[name] as T,
    set(name, value) {
      state[name] = value;
      emit(`change:${name}`);
      emit("change");
    },
    save_changes() {},
    on(event, listener) {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(listener as Listener));
    },
    off(event, listener) {
      listeners.get(event)?.delete(listener as Listener);
    },
    send(content) {
      const error = "not stored in this page";
      const tiles = (content as { tiles: string[] }).tiles.map((key) => ({ key, error }));
      queueMicrotask(() => emit("msg:custom", { tiles }, []));
    },
  };
  await widget.render({ model, el, signal: new AbortController().signal });
  return model;
}
