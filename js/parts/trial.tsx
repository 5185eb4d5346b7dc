// A text of the reader's own: where a feature fires in it, which others do, and what the model says when it is changed.
import { useMemo, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import { useTiles } from "../view.tsx";
import { Tokens } from "./concordance.tsx";
import { Choice, OWN_KEYS } from "./controls.tsx";
import { type How, inWords, short, useNames } from "./feature.ts";
import { type Outcome, OutcomeTable } from "./outcome.tsx";
import { Others } from "./numbers.tsx";
import { One } from "./token.tsx";
import { Writing } from "./writing.tsx";

interface Tried {
  text: string;
  position: number | null;
  intervention: How;
  strength: number;
  feature: number;
}
type Active = [feature: number, value: number, position: number][];

export function Trial({
  tried,
  live,
  written,
  scale,
  most,
  onChange,
  onGo,
  onCompare,
}: {
  tried: Tried;
  live: boolean;
  written: number;
  scale: Scale;
  most: number; // the feature's largest activation
  onChange: (some: Partial<Tried>) => void;
  onGo: (feature: number) => void;
  onCompare: (feature: number) => void;
}) {
  const { text, feature } = tried;
  const [pointed, setPointed] = useState<number | null>(null);
  const textKey = JSON.stringify({ what: "text", text });
  const alongKey = JSON.stringify({ what: "along", text, feature });
  const { get, errors } = useTiles(text ? [textKey, alongKey] : []);
  const read = get(textKey)?.json as { tokens: string[]; strongest: Active } | undefined;
  const position = read && tried.position !== null && tried.position < read.tokens.length ? tried.position : null;
  const atKey = JSON.stringify({ what: "at", text, position });
  const atTiles = useTiles(position === null ? [] : [atKey]);
  const values = get(alongKey)?.data as Float32Array | undefined;
  const active = position === null ? read?.strongest : (atTiles.get(atKey)?.json as Active | undefined);
  const names = useNames(active?.map(([each]) => each) ?? [], written);
  const tokens = useMemo(
    () => read && <Tokens tokens={read.tokens} values={values ?? []} scale={scale} marked={position} />,
    [read, values, scale, position],
  );
  const at = pointed ?? position;
  const placeOf = ({ target }: Event) => {
    const token = (target as Element).closest<HTMLElement>("[data-token]");
    return token ? Number(token.dataset.token) : null;
  };
  const move = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!read || !step) return;
    event.preventDefault();
    onChange({ position: Math.max(0, Math.min(read.tokens.length - 1, (position ?? read.tokens.length) + step)) });
  };
  const largest = values?.reduce((a, b) => Math.max(a, b), 0);
  return (
    <section class="iw-trial" aria-label="A text of your own">
      <h4>A text of your own</h4>
      <Writing label="a text of your own" text={text} live={live} onText={(next) => onChange({ text: next })} />
      {errors.length > 0 && (
        <small class="iw-error" role="alert">
          {inWords(errors[0]!, "this text")}
        </small>
      )}
      {read && (
        <>
          <div
            class="iw-own"
            role="listbox"
            tabIndex={0}
            aria-label={`Your text on the colour of feature ${feature}. Arrow keys go from token to token.`}
            onKeyDown={move}
            onMouseOver={(event) => setPointed(placeOf(event))}
            onMouseLeave={() => setPointed(null)}
            onClick={(event) => {
              const place = placeOf(event);
              if (place !== null) onChange({ position: place === position ? null : place });
            }}
          >
            {tokens}
          </div>
          <div class="iw-where">
            {at !== null && read.tokens[at] !== undefined ? (
              <>
                <One token={{ text: read.tokens[at], special: false }} position={at} /> feature {feature}:{" "}
                <b>{values ? format(values[at]!) : "…"}</b>
              </>
            ) : largest ? (
              <>
                feature {feature} reaches <b>{format(largest)}</b>, its largest in the corpus is {short(most)}
              </>
            ) : (
              values && `feature ${feature} is not active in it`
            )}
          </div>
          <div class="iw-columns">
            <Others
              title={position === null ? "Strongest in it" : <>Strongest at token {position}</>}
              about="The features with the largest activations there"
              features={(active ?? []).map(([each, value]) => [each, value])}
              {...{ names, onGo, onCompare }}
            />
            <Changed tried={{ ...tried, position }} most={most} live={live} onChange={onChange} />
          </div>
        </>
      )}
      {!text && <small>Write something: where the feature is active in it is computed as you write.</small>}
    </section>
  );
}

/** What the model says next, and how it goes on, without the change and with it. */
function Changed({
  tried,
  most,
  live,
  onChange,
}: {
  tried: Tried;
  most: number;
  live: boolean;
  onChange: (some: Partial<Tried>) => void;
}) {
  const { text, position, feature, intervention: how, strength } = tried;
  const [own, setOwn] = useState<number | null>(null); // while the slider moves
  const outcomeKey = JSON.stringify({ what: "outcome", text, position, feature, how, strength });
  const writtenKey = JSON.stringify({ what: "continuation", text, feature, how, strength });
  const { get, error } = useTiles(how === "none" ? [] : [outcomeKey, writtenKey]);
  const outcome = get(outcomeKey)?.json as Outcome | undefined;
  const written = get(writtenKey)?.json as { before: string[]; after: string[] } | undefined;
  const shown = own ?? strength;
  const say = (key: string) => {
    const wrong = error(key)?.message;
    return wrong ? (
      <small class="iw-error" role="alert">
        {inWords(wrong, "what this does: it was not run before the copy was made")}
      </small>
    ) : (
      <small>…</small>
    );
  };
  return (
    <div class="iw-changed">
      <div class="iw-row">
        <Choice
          label="the model"
          value={how}
          options={["none", "steer", "ablate"]}
          names={["as it is", "steered", "ablated"]}
          onChange={(intervention) => onChange({ intervention })}
        />
        {how === "steer" && (
          <label>
            <input
              type="range"
              {...OWN_KEYS}
              min={-4}
              max={4}
              step={0.25}
              value={shown}
              disabled={!live}
              aria-valuetext={`${shown} times the largest activation`}
              onInput={(event) => setOwn(event.currentTarget.valueAsNumber)}
              onChange={(event) => {
                setOwn(null);
                onChange({ strength: event.currentTarget.valueAsNumber });
              }}
            />{" "}
            <b>{short(shown)}</b> × max = {short(shown * most)}
          </label>
        )}
      </div>
      {how === "none" && (
        <small>
          Steered: the feature's direction is added at every token. Ablated: whatever lies along its direction is taken
          away. Is it what you think it is?
        </small>
      )}
      {how !== "none" && (
        <>
          {outcome ? <OutcomeTable outcome={outcome} names={["as it is", "changed"]} /> : say(outcomeKey)}
          {written ? (
            <dl>
              <dt>goes on, as it is</dt>
              <dd>
                <Diff tokens={written.before} than={written.after} />
              </dd>
              <dt>changed</dt>
              <dd>
                <Diff tokens={written.after} than={written.before} />
              </dd>
            </dl>
          ) : (
            outcome && say(writtenKey)
          )}
          {written && <small>{count(written.after.length)} tokens, each the likeliest.</small>}
        </>
      )}
    </div>
  );
}

/** Tokens, those that are others than in another text marked. */
const Diff = ({ tokens, than }: { tokens: string[]; than: string[] }) => (
  <>
    {tokens.map((token, i) => (
      <bdi class={token === than[i] ? "iw-token" : "iw-token iw-came"}>{token} </bdi>
    ))}
  </>
);
