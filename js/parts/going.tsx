// The ways through a dictionary: from feature to feature, by a filter, by the lists that the reader keeps.
import type { InputHTMLAttributes } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { type Asked, blockOf, useRows } from "./rows.tsx";

/** From feature to feature. */
export function Going({
  features,
  feature,
  asked,
  compare,
  ask,
  go,
  onCompare,
}: {
  features: number; // of the store
  feature: number;
  asked: Asked;
  compare: number | null;
  ask: (feature: number) => void; // have it here before it is gone to
  go: (feature: number) => void;
  onCompare: (feature: number | null) => void;
}) {
  const [trail, setTrail] = useState({ visited: [feature], at: 0 });
  useLayoutEffect(() => {
    const { visited, at } = trail;
    if (visited[at] !== feature) setTrail({ visited: [...visited.slice(0, at + 1), feature].slice(-200), at: Math.min(at + 1, 199) }); // prettier-ignore
  }, [feature]);
  const walk = (by: number) => {
    const at = trail.at + by;
    setTrail({ ...trail, at });
    go(trail.visited[at]!);
  };
  // A row at random, of those that pass the filter: it may have to come first.
  const [wish, setWish] = useState<number | null>(null);
  const { at, total } = useRows(asked, [blockOf(wish ?? 0)]);
  const index = wish === null ? undefined : at(wish)?.[0];
  useEffect(() => {
    if (index === undefined) return;
    setWish(null);
    go(index as number);
  }, [index]);
  const last = features - 1;
  const number = (label: string, value: number | null, onNumber: (value: number) => void) => {
    const then = (act: (value: number) => void) => (written: string) => {
      const to = Math.floor(Number(written));
      if (written && to >= 0 && to <= last) act(to);
    };
    return (
      <label>
        {label}{" "}
        <Draft
          type="number"
          min={0}
          max={last}
          value={String(value ?? "")}
          onDraft={then(ask)}
          onEnd={then(onNumber)}
        />
      </label>
    );
  };
  return (
    <>
      <span class="iw-group" role="group" aria-label="visited">
        <button type="button" disabled={trail.at === 0} onClick={() => walk(-1)}>
          ← back
        </button>
        <button type="button" disabled={trail.at >= trail.visited.length - 1} onClick={() => walk(1)}>
          forward →
        </button>
      </span>
      <span class="iw-group" role="group" aria-label="by number">
        <button type="button" disabled={feature === 0} onClick={() => go(feature - 1)}>
          previous
        </button>
        <button type="button" disabled={feature === last} onClick={() => go(feature + 1)}>
          next
        </button>
        <button type="button" disabled={!total} onClick={() => setWish(Math.floor(Math.random() * total!))}>
          random
        </button>
      </span>
      {number("feature", feature, go)}
      {number("beside it", compare, (to) => onCompare(to === feature ? null : to))}
      {compare !== null && (
        <button type="button" onClick={() => onCompare(null)}>
          only one
        </button>
      )}
    </>
  );
}

/** A field whose text is the reader's until it is entered or left, whatever is drawn again meanwhile. */
function Draft({
  value,
  onDraft,
  onEnd,
  ...rest
}: InputHTMLAttributes & { value: string; onDraft?: (written: string) => void; onEnd: (written: string) => void }) {
  const [own, setOwn] = useState<string | null>(null);
  const end = ({ currentTarget: { value: written } }: { currentTarget: HTMLInputElement }) => {
    if (own === null) return;
    setOwn(null);
    onEnd(written);
  };
  return (
    <input
      {...rest}
      value={own ?? value}
      onInput={({ currentTarget: { value: written } }) => {
        setOwn(written);
        onDraft?.(written);
      }}
      onChange={end}
      onBlur={end}
      onKeyDown={(event) => event.key === "Enter" && end(event)} // in JupyterLab, Enter makes no change event
    />
  );
}

/** A number, a word, or a condition. */
export function Filter({ filter, onFilter }: { filter: string; onFilter: (filter: string) => void }) {
  return (
    <label class="iw-filter">
      <Draft
        type="search"
        aria-label="filter: a number, a word, or a condition"
        title="A number; a word in labels, notes and tokens; or a condition over the columns, as in store.query"
        placeholder="31, a word, or density < 0.01 and max_activation > 20"
        value={filter}
        onEnd={onFilter}
      />
    </label>
  );
}

/** Lists that the reader keeps: a click filters the table. */
export function Lists({
  lists,
  filter,
  onFilter,
}: {
  lists: Record<string, number[]>;
  filter: string;
  onFilter: (filter: string) => void;
}) {
  const conditions: [string, string][] = Object.keys(lists).map((list) => [list, `'${list.replaceAll("'", "''")}' in lists`]); // prettier-ignore
  if (!conditions.length) return null;
  return (
    <div class="iw-row" role="group" aria-label="lists">
      {conditions.map(([list, condition]) => (
        <button
          type="button"
          aria-pressed={filter === condition}
          onClick={() => onFilter(filter === condition ? "" : condition)}
        >
          {list === "starred" && "★ "}
          <bdi>{list}</bdi>
        </button>
      ))}
    </div>
  );
}
