// Where the pointer is, outside the components' state: pointing draws again only what shows it.
import { useLayoutEffect, useState } from "preact/hooks";
import type { Cell } from "./attention.ts";

export type Hover = { query?: number; key?: number } | null;
export type Selected = { query: number | null; key: number | null }; // kept by a click

export class Pointer {
  at: Hover = null;
  private listeners = new Set<() => void>();

  set(at: Hover) {
    if (at?.query === this.at?.query && at?.key === this.at?.key) return;
    this.at = at;
    for (const listener of [...this.listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** What is marked: what is pointed at, else what is selected. */
  cell({ query, key }: Selected): Partial<Cell> {
    if (this.at?.query !== undefined || this.at?.key !== undefined) return this.at;
    return { ...(query !== null && { query }), ...(key !== null && { key }) };
  }
}

/** Be drawn again as the pointer moves. */
export function usePointer(pointer: Pointer, selected: Selected): { cell: Partial<Cell>; hovered: boolean } {
  const [at, setAt] = useState(pointer.at);
  useLayoutEffect(() => pointer.subscribe(() => setAt(pointer.at)), [pointer]);
  return { cell: pointer.cell(selected), hovered: at !== null };
}

/** The token that the strip is about: the marked one, else the one that sees, or is seen by, the most. */
export function activeOf(cell: Partial<Cell>, direction: "query" | "key", queries: number) {
  const marked = cell[direction];
  return { active: marked ?? (direction === "query" ? queries - 1 : 0), fallback: marked === undefined };
}
