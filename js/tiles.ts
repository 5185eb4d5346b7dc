// Tiles: data the view asks for by key, when it is on screen, and never twice.
//
// Components say what they want now, again and again; a key that is no longer wanted when the turn comes is simply not
// asked for. One message is under way at a time and carries several keys. See interpwidgets/views/view.py for the wire.

export interface Tile {
  shape: number[];
  data: Uint8Array | Int8Array | Float32Array;
  high: number;
  octaves: number;
  step: [number, number]; // weights a pixel, down and across
  sampled?: [number, number]; // queries looked at, of those a pixel stands for
  json?: unknown;
}

export interface Model {
  get<T>(name: string): T;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
}

type Meta = Partial<Omit<Tile, "json">> & { shape: number[]; kind: "u1" | "i1" | "f4"; zip?: boolean; json?: boolean };
/** Told which keys have their tile, or error, since now; none where only the silence changed. */
type Listener = (came: ReadonlySet<string>) => void;
type Answer = ({ key: string } & Meta) | { key: string; error: string };

const PER_MESSAGE = 8;
const CACHE_BYTES = 48e6;
const PATIENCE = 4000; // ms without an answer until the reader is told

export class Tiles {
  private cache = new Map<string, Tile | Error>(); // in the order of last use
  private wants = new Map<object, string[]>();
  private stale = new Set<string>(); // tiles of the data before: shown until those of the data now are here
  private asked = new Set<string>();
  private version: number;
  private listeners = new Set<Listener>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether Python has left a request unanswered for a while. */
  silent = false;

  constructor(
    private model: Model,
    signal: AbortSignal,
  ) {
    this.version = model.get("_version");
    const receive = (content: { tiles?: Answer[]; version?: number }, buffers: DataView[]) => {
      if (!content.tiles) return;
      if ((content.version ?? this.version) === this.version) void this.receive(content.tiles, buffers);
      else this.again();
    };
    const renew = () => {
      this.version = model.get("_version");
      for (const key of this.cache.keys()) this.stale.add(key);
      void this.open(model.get("_opening")).then(() => this.again());
    };
    model.on("msg:custom", receive);
    model.on("change:_version", renew);
    signal.addEventListener("abort", () => {
      model.off("msg:custom", receive);
      model.off("change:_version", renew);
      clearTimeout(this.timer);
    });
  }

  /** Take in the tiles that came with the view. */
  async open(entries: { key: string; meta: Meta; data: DataView }[]) {
    const read = entries.map(async ({ key, meta, data }) => {
      const tile = await unpack(meta, data).catch(() => undefined);
      if (tile) this.keep(key, tile); // else it is asked for like any other
    });
    await Promise.all(read);
    this.changed(entries.map(({ key }) => key));
  }

  /** Find out whether anyone answers. */
  hello() {
    this.wait();
    this.send([]);
  }

  peek(key: string): Tile | undefined {
    const found = this.cache.get(key);
    return found instanceof Error ? undefined : found;
  }

  error(key: string): Error | undefined {
    const found = this.cache.get(key);
    return found instanceof Error ? found : undefined;
  }

  /** What `owner` needs from now on, in order of importance. */
  want(owner: object, keys: string[]) {
    if (keys.length) this.wants.set(owner, keys);
    else this.wants.delete(owner);
    for (const key of keys) {
      const found = this.cache.get(key);
      if (!found) continue;
      this.cache.delete(key); // and last again: the cache is in the order of last use
      this.cache.set(key, found);
    }
    queueMicrotask(() => this.ask());
  }

  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  private keep(key: string, tile: Tile | Error) {
    this.cache.set(key, tile);
    this.stale.delete(key);
  }

  /** What was asked of the data before is asked of the data now. */
  private again() {
    this.asked.clear();
    this.ask();
  }

  private ask() {
    if (this.asked.size) return;
    const missing = [...this.wants.values()].flat().filter((key) => !this.cache.has(key) || this.stale.has(key));
    const tiles = [...new Set(missing)].slice(0, PER_MESSAGE);
    if (!tiles.length) return;
    this.asked = new Set(tiles);
    this.wait();
    this.send(tiles);
  }

  private send(tiles: string[]) {
    try {
      this.model.send({ tiles });
    } catch {
      // no kernel any more: what a silence says
    }
  }

  private wait() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.silent = true;
      this.asked.clear(); // a lost message is asked again, when something is wanted next
      this.changed([]);
    }, PATIENCE);
  }

  private async receive(answers: Answer[], buffers: DataView[]) {
    let next = 0;
    const arrived = answers.map((answer) => ("error" in answer ? undefined : buffers[next++]));
    await Promise.all(
      answers.map(async (answer, i) => {
        const tile =
          "error" in answer
            ? new Error(answer.error)
            : await unpack(answer, arrived[i]!).catch(
                (error: unknown) => new Error(`unreadable tile: ${String(error)}`),
              );
        this.keep(answer.key, tile);
        this.asked.delete(answer.key);
      }),
    );
    if (!this.asked.size) clearTimeout(this.timer);
    this.silent = false;
    this.evict();
    this.changed(answers.map(({ key }) => key));
    this.ask();
  }

  private evict() {
    const kept = new Set([...this.wants.values()].flat());
    const size = (tile: Tile | Error) => (tile instanceof Error ? 0 : tile.data.byteLength);
    let bytes = 0;
    for (const tile of this.cache.values()) bytes += size(tile);
    for (const [key, tile] of this.cache) {
      if (bytes <= CACHE_BYTES) break;
      if (kept.has(key)) continue;
      this.cache.delete(key);
      this.stale.delete(key);
      bytes -= size(tile);
    }
  }

  private changed(keys: string[]) {
    const came = new Set(keys);
    for (const listener of [...this.listeners]) listener(came);
  }
}

async function unpack(meta: Meta, view: DataView): Promise<Tile> {
  const sent = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);
  // Else a copy: hosts hand us views at any offset, and Float32Array wants a multiple of four.
  const bytes = meta.zip ? await inflate(sent) : sent.slice();
  const data =
    meta.kind === "f4" ? new Float32Array(bytes.buffer) : meta.kind === "i1" ? new Int8Array(bytes.buffer) : bytes;
  const json = meta.json ? (JSON.parse(new TextDecoder().decode(bytes)) as unknown) : undefined;
  return { high: 1, octaves: 8, step: [1, 1], ...meta, data, json };
}

/** The bytes that were deflated. (By way of a Response: a Blob's bytes would go through another process.) */
async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Response(bytes).body!.pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
