// Examples of a feature, one a line, the token that each is of in one column: what they share stands below each other.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, css, type Scale } from "../colour.ts";
import { useTiles } from "../view.tsx";
import { type Example, type FeatureRecord, type Group, Pointing, short, type Spot } from "./feature.ts";

interface Whole {
  tokens: string[];
  values: number[] | null;
}
const wholeKey = (feature: number, { context }: Example) => JSON.stringify({ what: "whole", context, feature });

const SOON = 80; // ms

export interface Jump {
  feature: number;
  group: number;
}

interface Props {
  record: FeatureRecord;
  whole: boolean;
  effects: boolean; // colours are what ablation does, not activations
  scale: Scale;
  selected: Spot | [];
  pointing: Pointing<Spot>;
  jump: Jump | null; // where to go now
  onSelect: (spot: Spot) => void; // group, example, position in its context
}

export function Concordance({ record, whole, effects, scale, selected, pointing, jump, onSelect }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState<string>("0,0"); // examples in view, of which the whole context is asked for
  const examples = new Map(record.groups.flatMap(({ examples }, g) => examples.map((each, e) => [`${g},${e}`, each])));
  const keys = whole ? near.split(" ").flatMap((at) => (examples.has(at) ? wholeKey(record.index, examples.get(at)!) : [])) : []; // prettier-ignore
  const { get, came } = useTiles([...new Set(keys)]);
  const look = () => {
    if (!whole) return;
    const { top, bottom } = box.current!.getBoundingClientRect();
    const rows = [...box.current!.querySelectorAll<HTMLElement>("[data-example]")].filter((row) => {
      const place = row.getBoundingClientRect();
      return place.bottom > top - 200 && place.top < bottom + 200;
    });
    setNear(rows.map((row) => row.dataset.example).join(" "));
  };
  useLayoutEffect(look, [record, whole, came]);
  useLayoutEffect(() => {
    box.current!.scrollTop = 0;
  }, [record.index]);
  useLayoutEffect(() => {
    const title = jump && box.current!.querySelectorAll("h4")[jump.group];
    if (title) box.current!.scrollTop += title.getBoundingClientRect().top - box.current!.getBoundingClientRect().top;
  }, [jump]);
  useLayoutEffect(() => {
    const row = box.current!.querySelector(`[data-example="${selected[0]},${selected[1]}"]`)?.getBoundingClientRect();
    const { top, bottom } = box.current!.getBoundingClientRect();
    if (row && row.top < top) box.current!.scrollTop += row.top - top;
    else if (row && row.bottom > bottom) box.current!.scrollTop += row.bottom - bottom;
  }, [selected.join()]);

  const spotOf = ({ target }: Event): Spot | null => {
    const token = (target as Element).closest<HTMLElement>("[data-token]");
    const row = token?.closest<HTMLElement>("[data-example]");
    return row ? ([...row.dataset.example!.split(","), token!.dataset.token].map(Number) as Spot) : null;
  };
  const move = (event: KeyboardEvent) => {
    const places = record.groups.flatMap(({ examples }, g) => examples.map((each, e) => [g, e, each] as const));
    const now = places.findIndex(([g, e]) => g === selected[0] && e === selected[1]);
    const go = (n: number, step = 0) => {
      const [g, e, { tokens, position, start }] = places[Math.max(0, Math.min(places.length - 1, n))]!;
      const at = step ? (selected[2] ?? start + position) + step : start + position;
      onSelect([g, e, Math.max(start, Math.min(start + tokens.length - 1, at))]);
    };
    const moves: Record<string, () => void> = {
      ArrowDown: () => go(now + 1),
      ArrowUp: () => go(now - 1),
      ArrowLeft: () => go(now, -1),
      ArrowRight: () => go(now, 1),
    };
    if (!places.length || !moves[event.key]) return;
    event.preventDefault();
    moves[event.key]!();
  };

  // What is in view is drawn at once, the rest when that is on the screen.
  const [drawn, setDrawn] = useState(-1);
  const all = drawn === record.index || jump?.feature === record.index || selected.length > 0;
  useEffect(() => {
    const timer = setTimeout(() => setDrawn(record.index), SOON);
    return () => clearTimeout(timer);
  }, [record.index]);

  // The same lines again are skipped as a whole, so that pointing costs what it draws.
  const lines = useMemo(
    () =>
      record.groups.slice(0, all ? undefined : 1).map((group, g) => (
        <section key={group.name}>
          <h4>{titleOf(group)}</h4>
          {group.examples.map((example, e) => {
            const marked = g === selected[0] && e === selected[1] ? selected[2] : undefined;
            const props = { example, effects, scale, marked, id: `${g},${e}` };
            const json = whole ? (get(wholeKey(record.index, example))?.json as Whole | undefined) : undefined;
            return whole ? <Paragraph {...props} whole={json} /> : <Line {...props} />;
          })}
        </section>
      )),
    [record, whole, effects, scale, selected.join(), came, near, all],
  );
  return (
    <div
      class="iw-examples"
      ref={box}
      role="listbox"
      tabIndex={0}
      aria-label={`Examples of feature ${record.index}. Arrow keys go from example to example and from token to token.`}
      onScroll={look}
      onKeyDown={move}
      onMouseOver={(event) => pointing.set(spotOf(event))}
      onMouseLeave={() => pointing.set(null)}
      onClick={(event) => {
        const spot = spotOf(event);
        if (spot) onSelect(spot);
      }}
    >
      {lines}
    </div>
  );
}

function titleOf({ name, low, high, count: size, exact, examples }: Group) {
  if (name === "top") return `The ${examples.length} strongest, each of another context`;
  const range = low === null || high === null ? "" : `, ${short(low)} to ${short(high)}`;
  const drawn = size ? `: ${examples.length} of ${exact ? "" : "about "}${count(size)} at random` : ": none";
  return `${name} of activations${range}${drawn}`;
}

interface LineProps {
  example: Example;
  effects: boolean;
  scale: Scale;
  marked: number | undefined;
  id: string;
}

/** A value's colours as a style; none where it is nothing or not known. */
function inked(scale: Scale, value: number | null | undefined): string | undefined {
  if (!value) return undefined;
  const { background, color } = css(scale, value);
  return `background:${background};color:${color}`;
}

export const Tokens = ({
  tokens,
  values,
  scale,
  marked,
  from = 0,
  peak,
}: {
  tokens: string[];
  values: ArrayLike<number | null>;
  scale: Scale;
  marked: number | null | undefined;
  from?: number; // the number of the first
  peak?: number; // the number of the one that this is an example of
}) => (
  <>
    {tokens.map((token, i) => (
      <span
        data-token={from + i}
        class={`${from + i === marked ? "iw-active" : ""} ${from + i === peak ? "iw-peak" : ""}`}
        style={inked(scale, values[i])}
      >
        {token}
      </span>
    ))}
  </>
);

function Line({ example, effects, scale, marked, id }: LineProps) {
  const { tokens, position, start } = example;
  const values = effects ? example.effects! : example.values;
  return (
    <div class="iw-kwic" data-example={id} role="option" aria-selected={marked !== undefined}>
      <b>{short(example.values[position]!)}</b>
      <span class="iw-kwic-left">
        <Tokens tokens={tokens.slice(0, position)} from={start} {...{ values, scale, marked }} />
      </span>
      <span class="iw-kwic-right">
        <Tokens
          tokens={tokens.slice(position)}
          values={values.slice(position)}
          from={start + position}
          peak={start + position}
          {...{ scale, marked }}
        />
      </span>
    </div>
  );
}

/** The whole context; the activations of all of it where a model can be run, else those around the example. */
function Paragraph({ example, effects, scale, marked, id, whole }: LineProps & { whole: Whole | undefined }) {
  const { start, tokens } = example;
  const kept = effects ? example.effects! : example.values;
  const from = whole ? 0 : start;
  const shown = whole?.tokens ?? tokens;
  const values = whole?.values && !effects ? whole.values : shown.map((_, i) => kept[from + i - start] ?? null);
  return (
    <div class="iw-whole" data-example={id} role="option" aria-selected={marked !== undefined}>
      <b>{short(example.values[example.position]!)}</b>
      <span>
        <Tokens tokens={shown} {...{ values, scale, marked, from }} peak={start + example.position} />
        {whole && !whole.values && <small> to know the rest takes a model: store.bind(model, dictionary)</small>}
      </span>
    </div>
  );
}
