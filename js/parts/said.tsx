// What people and labelers say of a feature, and what the reader writes: a label, lists, a note.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useShared, useTraits } from "../view.tsx";
import type { Said, Saying } from "./feature.ts";

const AGAIN = 8; // sayings told again with a new one: a host may keep the last state only

/** Tell Python what the reader says; nothing in a page that nobody answers. */
export function useSay(): ((saying: Saying) => void) | undefined {
  const { model } = useShared();
  const [, set] = useTraits<{ _said: object[] }>(["_said"]);
  if (!model.get("_live")) return undefined;
  return (saying) => {
    const id = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
    set({ _said: [...model.get<object[]>("_said").slice(1 - AGAIN), { id, ...saying }] });
  };
}

/** Text that becomes a field when it is clicked; Enter or leaving keeps what is written, Escape does not. */
function Written({
  label,
  text,
  empty,
  onText,
}: {
  label: string;
  text: string;
  empty: string;
  onText: ((text: string) => void) | undefined;
}) {
  const [own, setOwn] = useState<string | null>(null);
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => field.current?.focus(), [own === null]);
  const writing = useRef(false); // a field that goes away is left, too: that is no second end
  const end = (keep: boolean) => {
    if (writing.current && keep && own !== text) onText?.(own!);
    writing.current = false;
    setOwn(null);
  };
  if (own !== null)
    return (
      <input
        ref={field}
        class="iw-writing"
        aria-label={label}
        value={own}
        onInput={(event) => setOwn(event.currentTarget.value)}
        onBlur={() => end(true)}
        onKeyDown={(event) => {
          if (event.key === "Enter") end(true);
          if (event.key === "Escape") end(false);
        }}
      />
    );
  if (!onText) return text ? <bdi>{text}</bdi> : null;
  return (
    <button
      type="button"
      class="iw-written"
      title={`Write a ${label}`}
      onClick={() => {
        writing.current = true;
        setOwn(text);
      }}
    >
      {text ? <bdi>{text}</bdi> : <small>{empty}</small>}
    </button>
  );
}

export function SaidOf({ feature, said, lists }: { feature: number; said: Said | undefined; lists: string[] }) {
  const say = useSay();
  const [name, setName] = useState("");
  if (!said) return <div class="iw-row">…</div>;
  const put = say && ((list: string, on: boolean) => say({ feature, what: "list", list, on }));
  const starred = said.lists.includes("starred");
  const { score, low, high, by } = said;
  return (
    <>
      <div class="iw-row iw-label">
        {put && (
          <button
            type="button"
            class="iw-star"
            aria-pressed={starred}
            aria-label="starred"
            title={starred ? "Take it off the list “starred”" : "Put it on the list “starred”"}
            onClick={() => put("starred", !starred)}
          >
            {starred ? "★" : "☆"}
          </button>
        )}
        <span class="iw-said">
          <Written
            label="label"
            text={said.label ?? ""}
            empty="no label: write one"
            onText={say && ((text) => say({ feature, what: "label", text }))}
          />
        </span>
        {said.label !== null && (
          <small>
            {score !== null && (
              <>
                score <b>{score.toFixed(2)}</b>
                {low !== null && high !== null && ` [${low.toFixed(2)}, ${high.toFixed(2)}]`}
              </>
            )}
            {score === null && "not scored"}
            {by && (
              <>
                , by <bdi>{by}</bdi>
              </>
            )}
          </small>
        )}
      </div>
      <div class="iw-row">
        {said.lists.map((list) => (
          <span class="iw-chip">
            <bdi>{list}</bdi>
            {put && (
              <button type="button" aria-label={`take it off ${list}`} onClick={() => put(list, false)}>
                ×
              </button>
            )}
          </span>
        ))}
        {put && (
          <form
            onSubmit={(event) => {
              event.preventDefault();
              if (name.trim()) put(name.trim(), true);
              setName("");
            }}
          >
            <input
              aria-label="put it on a list"
              placeholder="+ list"
              list={`iw-lists-${feature}`}
              value={name}
              size={8}
              onInput={(event) => setName(event.currentTarget.value)}
            />
            <datalist id={`iw-lists-${feature}`}>
              {lists.map((list) => (
                <option value={list} />
              ))}
            </datalist>
          </form>
        )}
        <span class="iw-noted">
          <Written
            label="note"
            text={said.note}
            empty="+ note"
            onText={say && ((text) => say({ feature, what: "note", text }))}
          />
        </span>
      </div>
    </>
  );
}
