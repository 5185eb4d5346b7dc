// A table of any number of rows, of which only what is near the view is asked for and drawn.
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { count } from "../colour.ts";
import { px, useTiles } from "../view.tsx";
import { Ahead, inWords, percent, short } from "./feature.ts";

// As in interpwidgets/views/feature_tiles.py.
const ROWS = 64; // in a tile

const LINE = 22; // CSS pixels of a row
const TALLEST = 8e6; // of an element: browsers draw none that is much taller
const AHEAD = 4; // rows drawn beyond the view
const REST = 100; // ms

interface RowsTile {
  columns: string[];
  total: number;
  rows: Cell[][];
}
type Cell = string | number | string[] | null;

interface Column {
  name: string;
  title: string;
  about: string;
  width: string;
  text: (value: Cell) => string;
  wide?: boolean; // shown where there is room
  words?: boolean; // text, to the left
}
const token = (value: Cell) => (value === null ? "–" : String(value));
const number = (value: Cell) => short(value as number | null);
const COLUMNS: Column[] = [
  { name: "index", title: "feature", about: "its number", width: "62px", text: (value) => String(value) },
  { name: "density", title: "density", about: "share of the tokens at which it is active", width: "62px", text: (value) => percent(value as number) },
  { name: "max_activation", title: "max", about: "largest activation", width: "48px", text: number },
  { name: "peak_token", title: "peak", about: "the token at which it is largest", width: "minmax(56px, 1fr)", text: token, words: true },
  { name: "top_token", title: "raises", about: "the logit that it raises most", width: "minmax(56px, 1fr)", text: token, words: true, wide: true },
  { name: "nearest_cosine", title: "cosine", about: "with the nearest direction of another feature", width: "52px", text: number, wide: true },
  { name: "score", title: "score", about: "of its label", width: "44px", text: number, wide: true },
  { name: "label", title: "label", about: "what it is said to be", width: "minmax(60px, 1.4fr)", text: (value) => String(value ?? ""), words: true },
]; // prettier-ignore

export interface Asked {
  filter: string;
  sort: string;
  written: number;
}

export const rowsKey = ({ filter, sort, written }: Asked, block: number) =>
  JSON.stringify({ what: "rows", filter, sort, block, written });

/** Rows of the table as they come, the last ones while what was written is on its way. */
export function useRows(asked: Asked, blocks: number[]) {
  const { get, errors } = useTiles(blocks.map((block) => rowsKey(asked, block)));
  const of = (block: number) =>
    (get(rowsKey(asked, block)) ?? get(rowsKey({ ...asked, written: asked.written - 1 }, block)))?.json as
      RowsTile | undefined;
  const some = blocks.map(of).find(Boolean);
  const at = (i: number) => of(Math.floor(i / ROWS))?.rows[i % ROWS];
  return { at, errors, total: some?.total, columns: some?.columns };
}
export const blockOf = (row: number) => Math.floor(row / ROWS);

/** The blocks of the rows drawn, of so many, from a row at the top of the view on. */
function blocksFrom(top: number, lines: number, known: number): number[] {
  const { first, last } = drawnFrom(top, lines, known);
  const from = blockOf(first);
  return Array.from({ length: blockOf(Math.max(first, last - 1)) - from + 1 }, (_, i) => from + i);
}
const drawnFrom = (top: number, lines: number, known: number) => ({
  first: Math.max(0, Math.floor(top) - AHEAD),
  last: Math.min(known || lines, Math.ceil(top) + lines + AHEAD),
});

/** The top of the view when it goes to a row. */
const topAt = (row: number, lines: number, known: number) =>
  Math.max(0, Math.min(known - lines, row - Math.floor(lines / 3)));

/** Whether every feature has its row: then it is known where, before the row is here. */
const inOrder = ({ sort, filter }: Omit<Asked, "written">) => sort === "index" && !filter;

/** What the table will show when it goes to a feature. */
export const rowsAt = (asked: Asked, feature: number, lines: number, features: number): string[] =>
  inOrder(asked)
    ? blocksFrom(topAt(feature, lines, features), lines, features).map((block) => rowsKey(asked, block))
    : [];

export function Rows({
  asked,
  features,
  feature,
  width,
  lines,
  ready,
  onSort,
  onSelect,
}: {
  asked: Asked;
  features: number; // of the store
  feature: number;
  width: number;
  lines: number; // in view
  ready: boolean; // whether the feature's record is here: only then the table goes to it, and what is near is asked for
  onSort: (sort: string) => void;
  onSelect: (feature: number) => void;
}) {
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const all = inOrder(asked); // the one shown is in view, whoever chose it
  const [scrolled, setTop] = useState(all ? topAt(feature, lines, features) : 0); // the first row in view, or a part of it
  const [known, setKnown] = useState(all ? features : 0);
  const height = Math.min(TALLEST, Math.max(known, lines) * LINE);
  const hidden = Math.max(1, height - lines * LINE); // pixels that can be scrolled
  const rowsHidden = Math.max(0, known - lines);
  // It goes to a feature in the drawing that shows the feature, not in one after it.
  const went = useRef(feature);
  const outside = (row: number) => row < scrolled || row + 1 > scrolled + lines;
  const to = all && outside(feature) ? topAt(feature, lines, known) : scrolled;
  const goes = ready && went.current !== feature && to !== scrolled;
  const top = goes ? to : scrolled;
  const next = went.current === feature ? [] : blocksFrom(to, lines, known);
  const { first, last } = drawnFrom(top, lines, known);
  const { at, errors, total, columns } = useRows(asked, [...new Set([...blocksFrom(top, lines, known), ...next])]);
  useLayoutEffect(() => {
    if (total !== undefined) setKnown(total);
  }, [total]);
  const shown = COLUMNS.filter(({ name, wide }) => (columns ?? ["index"]).includes(name) && (!wide || width >= 520));
  const place = (name: string) => columns?.indexOf(name) ?? -1;
  const cell = (row: Cell[] | undefined, name: string) => row?.[place(name)] ?? null;
  const places = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
  const here = places.find((i) => cell(at(i), "index") === feature);

  const scale = rowsHidden * LINE > hidden ? rowsHidden / hidden : 1 / LINE; // rows a pixel
  const put = useRef(0); // the pixel scrolled to, which the page need not be asked for
  const scrollTo = (row: number) => {
    const to = Math.max(0, Math.min(rowsHidden, row));
    setTop(to);
    put.current = to / scale;
    box.current!.scrollTop = put.current;
  };
  useLayoutEffect(() => {
    if (!ready) return;
    went.current = feature;
    const own = all ? feature : here;
    if (own !== undefined && (own < top || own + 1 > top + lines)) scrollTo(topAt(own, lines, known));
    else if (Math.abs(put.current - top / scale) >= 1) scrollTo(top);
  }, [feature, known, lines, ready]);
  const beside =
    here === undefined ? [] : [here - 1, here + 1].flatMap((i) => (cell(at(i), "index") as number | null) ?? []);
  // A click on any row in view is answered at once, when the table has been at rest for a moment.
  const inView = places.filter((i) => i >= top && i < top + lines).flatMap((i) => (cell(at(i), "index") as number | null) ?? []); // prettier-ignore
  const [rest, setRest] = useState<number[]>([]);
  useEffect(() => {
    const timer = setTimeout(() => setRest(inView), REST);
    return () => clearTimeout(timer);
  }, [inView.join()]);
  const press = (event: KeyboardEvent) => {
    const by: Record<string, number> = { ArrowUp: -1, ArrowDown: 1, PageUp: 1 - lines, PageDown: lines - 1 };
    const step = by[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = here === undefined ? Math.ceil(top) : Math.max(0, Math.min(known - 1, here + step));
    const row = at(next);
    if (row) onSelect(cell(row, "index") as number);
    if (next < top) scrollTo(next);
    else if (next + 1 > top + lines) scrollTo(next + 1 - lines);
  };
  const template = `grid-template-columns:${shown.map((column) => column.width).join(" ")}`;
  const [by, way] = asked.sort.split(" ");
  return (
    <div class="iw-rows">
      <Ahead features={ready ? [...new Set([...beside, ...rest])] : []} />
      <div class="iw-rows-head" style={template}>
        {shown.map(({ name, title, about, words }) => {
          const sorted = by === name;
          return (
            <button
              type="button"
              class={words ? "iw-words" : ""}
              title={`${about}. Click to sort`}
              aria-label={`sort by ${title}${sorted ? `, now ${way === "desc" ? "descending" : "ascending"}` : ""}`}
              onClick={() =>
                onSort(sorted && way === "desc" ? name : name === "index" && !sorted ? name : `${name} desc`)
              }
            >
              {title}
              {sorted && (way === "desc" ? " ▾" : " ▴")}
            </button>
          );
        })}
      </div>
      <div
        class="iw-rows-body"
        ref={box}
        role="listbox"
        tabIndex={0}
        aria-label={`${count(known)} features, sorted by ${by}. Arrow keys move the selection.`}
        aria-activedescendant={here === undefined ? undefined : `${id}-${here}`}
        style={px({ height: lines * LINE })}
        onScroll={(event) => {
          const pixel = event.currentTarget.scrollTop;
          if (Math.abs(pixel - put.current) < 1) return;
          put.current = pixel;
          setTop(Math.min(rowsHidden, pixel * scale));
        }}
        onWheel={(event) => {
          if (scale <= 1 / LINE || event.ctrlKey) return;
          event.preventDefault(); // a pixel of the bar is several rows: the wheel moves by rows all the same
          scrollTo(top + (event.deltaMode ? event.deltaY : event.deltaY / LINE));
        }}
        onKeyDown={press}
        onClick={({ target }) => {
          const row = (target as Element).closest<HTMLElement>("[data-row]")?.dataset.row;
          if (row !== undefined && at(Number(row))) onSelect(cell(at(Number(row)), "index") as number);
        }}
      >
        <div style={px({ height })}>
          {places.map((i) => {
            const row = at(i);
            const lists = (cell(row, "lists") as string[] | null) ?? [];
            return (
              <div
                key={i}
                data-row={i}
                id={`${id}-${i}`}
                role="option"
                aria-selected={i === here}
                aria-setsize={known}
                aria-posinset={i + 1}
                class={i === here ? "iw-rows-row iw-active" : "iw-rows-row"}
                style={`${template};top:${(i - top) * LINE + Math.min(top / scale, hidden)}px;height:${LINE}px`}
              >
                {row
                  ? shown.map(({ name, text, words }) => (
                      <span class={words ? (name === "label" ? "iw-words" : "iw-words iw-token") : undefined}>
                        {name === "index" && lists.length > 0 && <i title={lists.join(", ")}>★</i>}
                        {text(cell(row, name))}
                      </span>
                    ))
                  : "…"}
              </div>
            );
          })}
        </div>
      </div>
      {errors.length ? (
        <small class="iw-error" role="alert">
          {inWords(errors[0]!, "these rows")}
        </small>
      ) : (
        <small>
          {total === undefined
            ? "…"
            : total === features
              ? `all ${count(total)} features`
              : `${count(total)} of ${count(features)} features`}
        </small>
      )}
    </div>
  );
}
