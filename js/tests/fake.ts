// Python's side of the wire, in the page: a model that holds traits and answers for tiles as views/view.py does.
import type { Model } from "../tiles.ts";

export type Key = { what: string; prompt: number; minus: number } & Record<string, any>;
export interface Answered {
  meta: Record<string, any>;
  bytes: Uint8Array<ArrayBuffer>;
}
type Listener = (...args: any[]) => void;

/** Numbers as one tile: float32 or bytes, at an offset in their buffer that no float likes. */
export function tileOf(data: Float32Array | Uint8Array | Int8Array, shape: number[], meta: object = {}): Answered {
  const kind = data instanceof Float32Array ? "f4" : data instanceof Int8Array ? "i1" : "u1";
  return { meta: { kind, shape, ...meta }, bytes: new Uint8Array(data.buffer.slice(0) as ArrayBuffer) };
}

export const jsonTile = (value: unknown): Answered => {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  return tileOf(bytes, [bytes.length], { json: true });
};

/** Weights as bytes, by the description in views/pyramid.py; −128 for a missing one. */
export function coded(weights: number[], shape: number[], signed: boolean, meta: object = {}): Answered {
  const high = weights.reduce((most, weight) => (Math.abs(weight) > most ? Math.abs(weight) : most), 0) || 1;
  const [octaves, last] = [16, signed ? 127 : 255];
  const codes = weights.map((weight) => {
    if (Number.isNaN(weight)) return -128;
    const code = 1 + (last - 1) * (1 + Math.log2(Math.abs(weight) / high) / octaves);
    return code < 0.5 ? 0 : Math.sign(weight) * Math.max(1, Math.round(code));
  });
  return tileOf(signed ? Int8Array.from(codes) : Uint8Array.from(codes), shape, { high, octaves, ...meta });
}

export async function deflated({ meta, bytes }: Answered): Promise<Answered> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return { meta: { ...meta, zip: true }, bytes: new Uint8Array(await new Response(stream).arrayBuffer()) };
}

function viewOf(bytes: Uint8Array): DataView {
  const odd = new Uint8Array(bytes.length + 5);
  odd.set(bytes, 3);
  return new DataView(odd.buffer, 3, bytes.length);
}

/** One model, and as many views of it as are rendered with it. */
export class Fake implements Model {
  listeners = new Map<string, Set<Listener>>();
  asked: string[][] = []; // every message, its keys
  saved: Record<string, unknown> = {}; // what reached Python
  answering = true;
  private dirty: Record<string, unknown> = {};

  constructor(
    public state: Record<string, any>,
    public tile: (key: Key) => Answered = () => {
      throw new Error("no such tile");
    },
  ) {}

  get<T>(name: string) {
    return this.state[name] as T;
  }

  set(name: string, value: unknown) {
    this.dirty[name] = value;
    this.change(name, value);
  }

  /** Python sets a trait. */
  change(name: string, value: unknown) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.emit(`change:${name}`, this, value);
  }

  save_changes() {
    Object.assign(this.saved, this.dirty);
    this.dirty = {};
  }

  on(event: string, callback: (...args: never[]) => void) {
    this.listeners.set(event, (this.listeners.get(event) ?? new Set()).add(callback as Listener));
  }

  off(event: string, callback: (...args: never[]) => void) {
    this.listeners.get(event)?.delete(callback as Listener);
  }

  emit(event: string, ...args: unknown[]) {
    for (const listener of [...(this.listeners.get(event) ?? [])]) listener(...args);
  }

  get listening() {
    return [...this.listeners.values()].reduce((count, each) => count + each.size, 0);
  }

  send(content: unknown) {
    const { tiles } = content as { tiles: string[] };
    this.asked.push(tiles);
    if (this.answering) setTimeout(() => this.answer(tiles));
  }

  answer(tiles: string[]) {
    const buffers: DataView[] = [];
    const answers = tiles.map((key) => {
      try {
        const { meta, bytes } = this.tile(JSON.parse(key) as Key);
        buffers.push(viewOf(bytes));
        return { key, ...meta };
      } catch (error) {
        return { key, error: (error as Error).message };
      }
    });
    this.emit("msg:custom", { tiles: answers }, buffers);
  }

  /** What comes with the widget: tiles that need not be asked for. */
  open(keys: object[]) {
    this.state._opening = keys.map((key) => {
      const { meta, bytes } = this.tile(key as Key);
      return { key: JSON.stringify(key), meta, data: viewOf(bytes) };
    });
    return this;
  }
}
