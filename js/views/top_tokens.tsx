// What the model expected after each token, and how surprising the one was that came.
import { useMemo, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import { Select } from "../parts/controls.tsx";
import { Flow } from "../parts/flow.tsx";
import { Frame } from "../parts/frame.tsx";
import { Legend } from "../parts/legend.tsx";
import { Search, useFound } from "../parts/search.tsx";
import { One, type Token, type TokenAt, usePromptTokens } from "../parts/token.tsx";
import { extent } from "../parts/values.ts";
import { useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

interface Prompt {
  name: string;
  size: number; // positions
  vocab: number;
  block: number; // positions in a tile
}

type Colour = "surprise" | "rank" | "entropy" | "kl" | "change";

interface Traits {
  title: string;
  prompts: Prompt[];
  prompt: number;
  runs: string[];
  colour: Colour;
  colour_range: [number, number] | [];
  search: string;
  position: number | null;
}

interface Top {
  tokens: string[][]; // [pos, k]
  ids: number[][];
  p: number[][];
}

const TRAITS = ["title", "prompts", "prompt", "runs", "colour", "colour_range", "search", "position"] as const;
const WHAT: Record<Colour, string> = {
  surprise: "surprise of the token, −log₂ p (bits)",
  rank: "rank of the token (0: the likeliest)",
  entropy: "entropy of the prediction (bits)",
  kl: "KL(first ‖ second) of the prediction (bits)",
  change: "change of surprise, second − first (bits)",
};
const SHORT: Record<Colour, string> = {
  surprise: "surprise",
  rank: "rank",
  entropy: "entropy",
  kl: "KL",
  change: "change of surprise",
};
// The rows of a tile of numbers, as in interpwidgets/views/top_tokens.py: four for each run, then these.
const ROW: Record<Colour, number> = { surprise: 0, rank: 1, entropy: 3, kl: 8, change: 9 };
const PROBABILITY = 2;
const ALL = 64; // blocks that are asked for also where they are not in view
const AFTER: Token = { text: "▸next", special: false };

const key = (what: "numbers" | "top", prompt: number, block: number) => JSON.stringify({ what, prompt, block });

function TopTokensView() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { prompts, prompt, runs, colour, position } = traits;
  const { size, vocab, block } = prompts[prompt]!;
  const width = useWidth();
  const dark = useDark();
  const [hovered, setHovered] = useState<number | null>(null); // a place in the text: the token after a position
  const [[first, last], setWindow] = useState([0, 0]);
  const own = usePromptTokens(prompt, 0, size);
  const tokenAt: TokenAt = useMemo(() => (place) => (place < size ? own(place) : AFTER), [own, size]);

  const blocks = blocksOf(size, block, first - 1, last);
  const { get, errors, came } = useTiles(blocks.map((i) => key("numbers", prompt, i)));
  const number = useMemo(
    () => (row: number, at: number) => {
      const tile = get(key("numbers", prompt, Math.floor(at / block)));
      return tile && tile.data[row * tile.shape[1]! + (at % block)];
    },
    [prompt, block, came, first, last],
  );
  const valueAt = useMemo(() => (place: number) => (place ? number(ROW[colour], place - 1) : NaN), [number, colour]);
  const [from, to] = traits.colour_range;
  const scale = useMemo((): Scale => {
    const tiles = blocks.flatMap((i) => get(key("numbers", prompt, i)) ?? []);
    const rows = tiles.map(({ data, shape }) => {
      const n = shape[1]!;
      return extent((data as Float32Array).subarray(ROW[colour] * n, (ROW[colour] + 1) * n));
    });
    const seen = Math.max(1e-6, ...rows.map(([low, high]) => Math.max(-low, high)));
    const most = { surprise: Math.log2(vocab), entropy: Math.log2(vocab), rank: vocab - 1, kl: seen, change: seen };
    const high = to ?? most[colour];
    const kind = colour === "rank" ? "log" : "linear";
    return { kind, low: from ?? 0, high, floor: 0.5, signed: colour === "change", dark };
  }, [colour, vocab, from, to, dark, number]);
  const found = useFound(traits.search, size, own);
  const marked = useMemo(() => new Set(found), [found]);

  const at = hovered ? hovered - 1 : (position ?? size - 1);
  const select = (place: number | null) => {
    if (place !== 0) set({ position: place && place - 1 }); // before the first token nothing is predicted
  };
  const names = (Object.keys(WHAT) as Colour[]).filter((name) => runs.length > 1 || ROW[name] < 4);
  return (
    <Frame
      name="top-tokens"
      title={traits.title}
      about={
        <>
          Each token is on the colour of its {SHORT[colour]}. Point at one to see what was expected in its place; click
          to keep it.{runs.length > 1 && ` First: ${runs[0]}; second: ${runs[1]}.`}
        </>
      }
      controls={
        <>
          {prompts.length > 1 && (
            <Select
              label="prompt"
              value={prompt}
              options={prompts.map(({ name }, i) => [i, name])}
              onChange={(next) => set({ prompt: next, position: null })}
            />
          )}
          <Select
            label="colour by"
            value={colour}
            options={names.map((name) => [name, SHORT[name]])}
            onChange={(next) => set({ colour: next, colour_range: [] })}
          />
          <Search
            search={traits.search}
            found={found}
            from={position === null ? null : position + 1}
            onSearch={(search) => set({ search })}
            onNext={select}
          />
        </>
      }
      status={<Came {...{ runs, at, size, own, number }} />}
    >
      <Flow
        label={`Text on the colour of ${WHAT[colour]}`}
        size={size + 1}
        {...{ tokenAt, valueAt, scale, width }}
        position={(position ?? size - 1) + 1}
        span={[]}
        found={marked}
        lines={10}
        onHover={setHovered}
        onSelect={select}
        onWindow={(start, end) => setWindow((now) => (now[0] === start && now[1] === end ? now : [start, end]))}
      />
      {errors.map((error) => (
        <small class="iw-note" role="alert">
          {error}
        </small>
      ))}
      <Legend
        scale={scale}
        what={WHAT[colour]}
        automatic={!traits.colour_range.length}
        onRange={(colour_range) => set({ colour_range })}
      />
      <Expected {...{ prompt, block, at, runs, size, own, number }} />
    </Frame>
  );
}

type NumberAt = (row: number, position: number) => number | undefined;

/** In words and numbers: what came after a position, and how likely it was. */
function Came({
  runs,
  at,
  size,
  own,
  number,
}: {
  runs: string[];
  at: number;
  size: number;
  own: TokenAt;
  number: NumberAt;
}) {
  const last = at + 1 === size;
  const second = runs.length > 1;
  const read = (row: number) => {
    const value = number(row, at);
    return value === undefined ? "…" : Number.isFinite(value) ? format(value) : "∞";
  };
  return (
    <>
      after <One token={own(at)} position={at} />
      {last ? (
        "nothing came: the text ends. "
      ) : (
        <>
          came <One token={own(at + 1)} position={at + 1} />
        </>
      )}
      {runs.map((run, i) => (
        <span class="iw-reading">
          {second && `${run}: `}
          {!last && (
            <>
              probability <b>{read(4 * i + PROBABILITY)}</b>, surprise <b>{read(4 * i)}</b> bits, rank{" "}
              <b>{read(4 * i + 1).replace(/\.0+$/, "")}</b>,{" "}
            </>
          )}
          entropy <b>{read(4 * i + 3)}</b> bits
        </span>
      ))}
      {second && (
        <span class="iw-reading">
          KL <b>{read(ROW.kl)}</b> bits
        </span>
      )}
    </>
  );
}

/** The likeliest tokens after a position, of each run; the one that came is marked, and added where it is not among them. */
function Expected({
  prompt,
  block,
  at,
  runs,
  size,
  own,
  number,
}: {
  prompt: number;
  block: number;
  at: number;
  runs: string[];
  size: number;
  own: TokenAt;
  number: NumberAt;
}) {
  const wanted = key("top", prompt, Math.floor(at / block));
  const { get, errors } = useTiles([wanted, key("numbers", prompt, Math.floor(at / block))]);
  const lists = get(wanted)?.json as Top[] | undefined;
  const came = at + 1 < size ? own(at + 1) : undefined;
  const i = at % block;
  const most = Math.max(1e-9, ...(lists ?? []).map(({ p }) => p[i]?.[0] ?? 0));
  const bar = (p: number, which: string) => (
    <td class="iw-bar">
      <i class={which} style={{ width: `${(100 * p) / most}%` }} />
      <span>{percent(p)}</span>
    </td>
  );
  return (
    <div class="iw-beside">
      {runs.map((run, r) => {
        const list = lists?.[r];
        const rank = number(4 * r + 1, at);
        const listed = rank !== undefined && list?.ids[i]?.includes(came?.id ?? -1);
        return (
          <table aria-label={`Expected after position ${at} by ${run}`}>
            <thead>
              <tr>
                <th>rank</th>
                <th>{runs.length > 1 ? run : "expected"}</th>
                <th>probability</th>
              </tr>
            </thead>
            <tbody>
              {list?.tokens[i]?.map((token, row) => (
                <tr class={list.ids[i]![row] === came?.id ? "iw-came" : ""}>
                  <td>{row}</td>
                  <td>
                    <bdi class="iw-token">{token}</bdi>
                  </td>
                  {bar(list.p[i]![row]!, r ? "iw-after" : "iw-before")}
                </tr>
              ))}
              {list && came && !listed && rank !== undefined && (
                <tr class="iw-came">
                  <td>{count(rank)}</td>
                  <td>
                    <bdi class="iw-token">{came.text}</bdi>
                  </td>
                  {bar(number(4 * r + PROBABILITY, at) ?? 0, r ? "iw-after" : "iw-before")}
                </tr>
              )}
            </tbody>
          </table>
        );
      })}
      {errors.length > 0 && <small role="alert">{errors[0]}</small>}
    </div>
  );
}

const percent = (p: number) => `${p >= 1e-4 || !p ? (100 * p).toFixed(2) : String(Number((100 * p).toPrecision(1)))} %`;

/** The blocks in view, then the others where they are few. */
function blocksOf(size: number, block: number, first: number, last: number): number[] {
  const all = Array.from({ length: Math.ceil(size / block) }, (_, i) => i);
  const seen = all.filter((i) => (i + 1) * block > first && i * block < last);
  return all.length > ALL ? seen : [...seen, ...all.filter((i) => !seen.includes(i))];
}

export default view(TopTokensView);
