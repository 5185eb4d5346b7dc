// Tokens that hold a piece of text: the field to write it in, and where they are.
import { useMemo } from "preact/hooks";
import { count } from "../colour.ts";
import type { TokenAt } from "./token.tsx";

/** The positions whose token holds the text searched for, in order. */
export function useFound(search: string, size: number, tokenAt: TokenAt): number[] {
  return useMemo(() => {
    const wanted = search.replaceAll(" ", "␣").toLowerCase();
    const places: number[] = [];
    for (let i = 0; wanted && i < size; i++) if (tokenAt(i)?.text.toLowerCase().includes(wanted)) places.push(i);
    return places;
  }, [search, size, tokenAt]);
}

export function Search({
  search,
  found,
  from,
  onSearch,
  onNext,
}: {
  search: string;
  found: number[];
  from: number | null; // where to look for the next one
  onSearch: (search: string) => void;
  onNext: (position: number) => void;
}) {
  const next = found.find((place) => place > (from ?? -1)) ?? found[0];
  return (
    <span class="iw-search">
      <label>
        search{" "}
        <input
          type="search"
          value={search}
          placeholder="token"
          onInput={(event) => onSearch(event.currentTarget.value)}
        />
      </label>
      {search && ` ${count(found.length)} found `}
      {next !== undefined && (
        <button type="button" onClick={() => onNext(next)}>
          next
        </button>
      )}
    </span>
  );
}
