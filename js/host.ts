// A page is a host too: the same views, over a model that nobody runs. Its tiles came with it: the first ones open the
// view, the others are unpacked when they are asked for.
import type { Model } from "./tiles.ts";

interface Widget {
  render(context: { model: Model; el: HTMLElement; signal: AbortSignal }): unknown;
}
type State = Record<string, unknown> & { _opening: { key: string; meta: object; data: string }[] };
type Listener = (...args: unknown[]) => void;

const AT_ONCE = 1e6; // characters of tiles unpacked before anything is drawn

export async function mount(widget: Widget, el: HTMLElement, state: State): Promise<Model> {
  const stored = new Map(state._opening.map((entry) => [entry.key, entry]));
  let left = AT_ONCE;
  const first = state._opening.filter(({ data }) => (left -= data.length) >= 0);
  const traits: Record<string, unknown> = {
    ...state,
    _opening: first.map((entry) => ({ ...entry, data: bytes(entry.data) })),
  };
  const listeners = new Map<string, Set<Listener>>();
  const history = { past: [] as [string, unknown][][], future: [] as [string, unknown][][], open: false };
  const step = (come: [string, unknown][][], go: [string, unknown][][]) => {
    const before = come.pop();
    if (!before) return;
    go.push(before.map(([name]) => [name, traits[name]]));
    for (const [name, value] of before) put(name, value);
  };
  const put = (name: string, value: unknown) => {
    traits[name] = value;
    emit(`change:${name}`);
    emit("change");
  };
  const emit = (event: string, ...args: unknown[]) => listeners.get(event)?.forEach((listener) => listener(...args));
  const model: Model = {
    get: <T>(name: string) => traits[name] as T,
    set(name, value) {
      if (history.open) history.past.at(-1)!.push([name, traits[name]]);
      else history.past.push([[name, traits[name]]]);
      history.open = true;
      history.future = [];
      put(name, value);
    },
    save_changes() {
      history.open = false;
    },
    on(event, listener) {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(listener as Listener));
    },
    off(event, listener) {
      listeners.get(event)?.delete(listener as Listener);
    },
    send(content) {
      const { tiles: keys, undo } = content as { tiles?: string[]; undo?: boolean };
      if (undo !== undefined)
        step(...((undo ? [history.past, history.future] : [history.future, history.past]) as [[], []]));
      if (!keys) return;
      const tiles = keys.map((key) => ({ key, ...(stored.get(key)?.meta ?? { error: "not stored in this page" }) }));
      const buffers = keys.flatMap((key) => stored.get(key)?.data ?? []).map(bytes);
      queueMicrotask(() => emit("msg:custom", { tiles }, buffers));
    },
  };
  await widget.render({ model, el, signal: new AbortController().signal });
  return model;
}

/** Whether features are of different layers: the same number is then another feature. As in linking.py. */
function apart(...models: Model[]) {
  const layers = models.map((model) => model.get("feature_layer")).filter((layer) => typeof layer === "number");
  return new Set(layers).size > 1;
}

/** Keep traits of several models equal: each group names them as [model, trait]. */
export function link(models: Model[], groups: [number, string][][]) {
  for (const group of groups)
    for (const [from, name] of group)
      models[from]!.on(`change:${name}`, () => {
        const value = models[from]!.get(name);
        for (const [to, other] of group) {
          const model = models[to]!;
          if (to === from || JSON.stringify(model.get(other)) === JSON.stringify(value)) continue;
          if (name === "feature" && apart(models[from]!, model)) continue;
          model.set(other, value);
          model.save_changes();
        }
      });
}

function bytes(base64: string): DataView {
  const characters = atob(base64);
  const array = new Uint8Array(characters.length);
  for (let i = 0; i < array.length; i++) array[i] = characters.charCodeAt(i);
  return new DataView(array.buffer);
}
