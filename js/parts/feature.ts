// A feature as Python tells it (interpwidgets/views/feature_tiles.py), and how it is asked for.
import { useEffect, useLayoutEffect, useMemo, useState } from "preact/hooks";
import { useTiles } from "../view.tsx";

export interface Example {
  tokens: string[];
  values: (number | null)[]; // exact at `position`, elsewhere within 1/32
  effects?: (number | null)[]; // change of each token's log-probability without the feature
  position: number;
  context: number;
  start: number; // of the tokens, in their context
}
export interface Group {
  name: string;
  low: number | null;
  high: number | null;
  count: number;
  exact: boolean; // whether `count` was counted
}
type Near = [feature: number, value: number];
export interface FeatureRecord {
  index: number;
  count: number;
  density: number;
  mean: number | null;
  max: number;
  histogram: { edges: number[]; counts: number[] };
  top_logits: [token: string, logit: number][];
  bottom_logits: [token: string, logit: number][];
  neighbours: Near[];
  co_firing: Near[];
  groups: Group[]; // from the strongest to the weakest
  top: Example[]; // the strongest
}
export interface Name {
  index: number;
  label: string | null;
  peak: string | null;
  raises: string | null;
}
export interface Said {
  label: string | null;
  score: number | null;
  low: number | null;
  high: number | null;
  by: string | null;
  note: string;
  lists: string[];
}
export type Saying = { feature: number } & (
  { what: "label" | "note"; text: string } | { what: "list"; list: string; on: boolean }
);

export interface Facts {
  features: number;
  tokens: number;
  model: string;
  dictionary: string;
  columns: string[];
  runs: boolean;
}
export type How = "none" | "steer" | "ablate";
export type Spot = [group: number, example: number, token: number]; // 0: the strongest; the token by its position in the context

export const recordKey = (feature: number) => JSON.stringify({ what: "record", feature });
export const saidKey = (feature: number, written: number) => JSON.stringify({ what: "said", feature, written });

/** A feature's examples, the strongest first, then those of each group as soon as they are here. */
export function useExamples(record: FeatureRecord): Example[][] {
  const key = JSON.stringify({ what: "weaker", feature: record.index });
  const weaker = useTiles([key]).get(key)?.json as Example[][] | undefined;
  return useMemo(() => [record.top, ...(weaker ?? [])], [record, weaker]);
}

/** Ask for what may be wanted next; nothing is drawn when it comes. */
export function Ahead({ features }: { features: number[] }) {
  const [now, setNow] = useState<number[]>([]);
  const names = features.join();
  useEffect(() => {
    const later = setTimeout(() => setNow(features), 60); // what is on the screen goes first
    return () => clearTimeout(later);
  }, [names]);
  useTiles(now.map(recordKey));
  return null;
}
const NOT_HERE = "not stored in this page";
export const inWords = (error: string, what: string) =>
  error === NOT_HERE ? `This copy does not hold ${what}.` : error;

/** A tile that changes as people write: the last one stands while the next is on its way. */
export function useWritten<T>(key: object | null, written: number): T | undefined {
  const at = (number: number) => JSON.stringify({ ...key, written: number });
  const { get } = useTiles(key ? [at(written)] : []);
  return key ? ((get(at(written)) ?? get(at(written - 1)))?.json as T | undefined) : undefined;
}

/** What some features are called, by their number. */
export function useNames(features: number[], written: number): ReadonlyMap<number, Name> {
  const names = useWritten<Name[]>(features.length ? { what: "names", features } : null, written);
  return new Map(names?.map((name) => [name.index, name]));
}

/** Something pointed at, outside the components' state: pointing draws again only what shows it. */
export class Pointing<T> {
  at: T | null = null;
  private listeners = new Set<() => void>();

  set(at: T | null) {
    this.at = at;
    for (const listener of [...this.listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
}

export function usePointing<T>(pointing: Pointing<T>): T | null {
  const [at, setAt] = useState(pointing.at);
  useLayoutEffect(() => pointing.subscribe(() => setAt(() => pointing.at)), [pointing]);
  return at;
}

/** Three digits, as a reader compares them. */
export const short = (value: number | null) =>
  value === null ? "–" : Number(value.toPrecision(3)).toString().replace("-", "−");
export const percent = (share: number) => `${Number((100 * share).toPrecision(3))} %`;
