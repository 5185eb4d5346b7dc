// What a circuit does alone, and what the model does without it, between the whole model and none of it.
import { useState } from "preact/hooks";
import { count, format } from "../colour.ts";
import { useTiles } from "../view.tsx";
import type { Facts, Shown } from "./graph.ts";

interface Side {
  base: number;
  value: number;
  low: number | null;
  high: number | null;
  goal: number;
  recovered: number | null;
  exceeds: number | null; // the share of random circuits that did less
  control: number[];
}

interface Faithful {
  what: "nodes" | "edges";
  metric: string;
  how: string;
  size: number;
  of: number;
  n: number;
  kept: Side;
  removed: Side;
}

function FaithfulTable({ found }: { found: Faithful }) {
  const { kept, removed, size, of, n, metric, how } = found;
  const sides = [kept, removed];
  const all = sides.flatMap(({ value, low, high, base, goal, control }) => [value, low, high, base, goal, ...control]);
  const known = all.filter((each) => each !== null);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const at = (value: number) => `${2 + (96 * (value - least)) / (most - least || 1)}%`; // marks have a width
  const parts = found.what === "nodes" ? "heads and MLPs" : "edges";
  const row = (name: string, side: Side, goal: string) => (
    <tr>
      <th scope="row">{name}</th>
      <td>
        <b>{format(side.value)}</b>
        {side.low !== null && ` (95 % ${format(side.low)} … ${format(side.high!)})`}
      </td>
      <td>{side.recovered === null ? "no gap" : `${(100 * side.recovered).toFixed(0)} % ${goal}`}</td>
      <td>
        <span class="iw-circuit-track" aria-hidden="true">
          <i class="iw-none" style={{ left: at(kept.base) }} />
          <i class="iw-whole" style={{ left: at(kept.goal) }} />
          {side.control.map((value) => (
            <i class="iw-random" style={{ left: at(value) }} />
          ))}
          {side.low !== null && (
            <i class="iw-span" style={{ left: at(side.low), right: `calc(100% - ${at(side.high!)})` }} />
          )}
          <i class="iw-value" style={{ left: at(side.value) }} />
        </span>
      </td>
      <td>
        {side.control.length > 0 && (
          <>
            {format(side.control.reduce((sum, value) => sum + value, 0) / side.control.length)}
            <small> mean of {side.control.length}</small>
          </>
        )}
      </td>
    </tr>
  );
  return (
    <div class="iw-circuit-test" role="group" aria-label="What the circuit is worth">
      <div>
        <b>
          {size} of {of} {parts}
        </b>
        , {n} prompts; {how}. Measured: {metric}.
      </div>
      <table>
        <thead>
          <tr>
            <th />
            <th>metric</th>
            <th>share of the way</th>
            <th>
              <span class="iw-circuit-ends">
                <small>{format(least)}</small>
                <small>{format(most)}</small>
              </span>
            </th>
            <th>random {parts}</th>
          </tr>
        </thead>
        <tbody>
          {row("the circuit alone", kept, "to the whole model")}
          {row("the model without it", removed, "to all ablated")}
        </tbody>
      </table>
      <small>
        <i class="iw-whole" /> the whole model {format(kept.goal)} <i class="iw-none" /> all ablated {format(kept.base)}{" "}
        <i class="iw-value" /> the circuit, with its interval <i class="iw-random" /> random circuits of this size. Wang
        et al. 2022 §4: faithful if the first row is near the whole model, complete if the second is near none.
      </small>
    </div>
  );
}

interface Tested {
  facts: Facts;
  pinned: string[];
  _live: boolean;
}

/** Everything outside ablated: asked for by a click, since it runs the model. */
export function Test({ traits, shown }: { traits: Tested; shown: Shown }) {
  const { facts, pinned, _live } = traits;
  const nodes = pinned.length ? pinned : shown.ids;
  const key = JSON.stringify({ what: "faithfulness", nodes, ...(facts.test === "edges" && { edges: shown.edges }) });
  const [asked, ask] = useState("");
  const wanted = !_live || asked === key;
  const { get, errors } = useTiles(wanted ? [key] : []);
  const found = get(key)?.json as Faithful | undefined;
  const what = `the ${count(nodes.length)} node${nodes.length === 1 ? "" : "s"} ${pinned.length ? "pinned" : "shown"}`;
  return (
    <div class="iw-circuit-tests">
      {_live && !(wanted && found) && (
        <button type="button" onClick={() => ask(key)}>
          Ablate everything outside {what}
        </button>
      )}
      {found ? (
        <FaithfulTable found={found} />
      ) : wanted ? (
        <small>{errors[0] ? (_live ? errors[0] : `No test of ${what} was stored in this copy.`) : " running …"}</small>
      ) : (
        <small> Does the circuit do the task, and nothing else? Random circuits of this size are run beside it.</small>
      )}
    </div>
  );
}
