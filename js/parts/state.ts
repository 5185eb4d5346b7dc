// State with rules of its own: where the matrix is zoomed to, and which tokens were searched for.
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { chunksOf, type Prompt, type Traits, useTokens, type Viewport } from "./attention.ts";

/** The viewport moves at once here, and reaches Python when it rests. */
export function useViewport(traits: Traits, set: (some: Partial<Traits>) => void, queries: number, nKeys: number) {
  const [own, setOwn] = useState<Viewport | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useLayoutEffect(() => setOwn(null), [traits.viewport.join()]);
  useLayoutEffect(() => () => clearTimeout(timer.current), []);
  const move = (viewport: Viewport) => {
    setOwn(viewport);
    clearTimeout(timer.current);
    const everything = viewport.join() === [0, queries, 0, nKeys].join();
    timer.current = setTimeout(() => set({ viewport: everything ? [] : viewport }), 250);
  };
  const given = traits.viewport.length ? traits.viewport : null;
  return [fit(own ?? given ?? [0, queries, 0, nKeys], queries, nKeys), move] as const;
}

export const fit = ([top, bottom, left, right]: Viewport, queries: number, nKeys: number): Viewport => [
  Math.max(0, Math.min(top, queries - 1)), Math.min(bottom, queries), Math.max(0, Math.min(left, nKeys - 1)), Math.min(right, nKeys),
]; // prettier-ignore

/** Where the tokens searched for are. All tokens are asked for, once something is. */
export function useSearch({ search, direction }: Traits, prompt: Prompt, at: number) {
  const size = prompt.shape[direction === "query" ? 2 : 3];
  const tokens = useTokens(prompt, at, direction, search ? chunksOf(prompt, direction, 0, size) : []);
  return useMemo(() => {
    const places: number[] = [];
    const wanted = search.replaceAll(" ", "␣").toLowerCase();
    for (let i = 0; search && i < size; i++) if (tokens(i)?.text.toLowerCase().includes(wanted)) places.push(i);
    return { places, set: new Set(places), next: (from: number) => places.find((i) => i > from) ?? places[0]! };
  }, [search, direction, tokens]);
}

const STEADY = 150; // ms

/** What was last ready, for a moment while the next is not: what would blink stands still. `of` tells one from another. */
export function useSteady<T>(now: T, ready: boolean, of: string): T {
  const last = useRef<{ value: T; of: string } | null>(null);
  const [, expire] = useReducer((count: number, _: void) => count + 1, 0);
  if (ready) last.current = { value: now, of };
  useEffect(() => {
    if (ready) return;
    const timer = setTimeout(() => {
      last.current = null;
      expire();
    }, STEADY);
    return () => clearTimeout(timer);
  }, [ready]);
  return last.current?.of === of ? last.current.value : now;
}
