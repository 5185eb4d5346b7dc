// Of a cell of the lens: its likeliest tokens, their way through the layers, and what wrote the logit.
import { count, format } from "../colour.ts";
import { useTiles } from "../view.tsx";
import { Contributions, type Term } from "./contributions.tsx";
import { type CellTile, fitted, key, NOT_HERE, type Traits, useFound, type WritesTile } from "./lens.ts";
import { Trajectory } from "./trajectory.tsx";

/** Of the selected cell: its likeliest tokens, their way there, and what wrote the logit. */
export function Details({
  traits,
  at,
  named,
  narrow,
  set,
}: {
  traits: Traits;
  at: number;
  named: boolean;
  narrow: boolean;
  set: (some: Partial<Traits>) => void;
}) {
  const prompt = traits.prompts[at]!;
  const { layer, position } = fitted(prompt, traits.layer, traits.position);
  const { found } = useFound(at, traits.token);
  const token = traits.token ? found?.token : -1;
  const cellKey = key({ what: "cell", prompt: at, layer, position, token, k: traits.top_k });
  const writesKey = key({ what: "writes", prompt: at, layer, position, token });
  const asked = useTiles(token === undefined ? [] : [cellKey, writesKey]);
  const cell = asked.get(cellKey)?.json as CellTile | undefined;
  const writes = asked.get(writesKey)?.json as WritesTile | undefined;
  const trouble = (name: string) => {
    const error = asked.error(name)?.message;
    if (!error) return <small>…</small>;
    return <small role="alert">{error === NOT_HERE ? "This copy does not hold this cell." : error}</small>;
  };
  const i = prompt.layers.indexOf(layer);
  const main = cell ? Math.max(0, cell.ids.indexOf(token ?? -1)) : 0;
  return (
    <>
      <div class="iw-lens-cell">
        <div class="iw-caption">
          <b>
            After layer {layer}, position {position}
          </b>
          {named && ` · ${prompt.name}`}: the likeliest next tokens
        </div>
        {cell ? (
          <Likeliest cell={cell} at={i} chosen={token} onFollow={(text) => set({ token: text })} />
        ) : (
          trouble(cellKey)
        )}
      </div>
      <div class="iw-lens-line">
        <div class="iw-caption">
          probability of <bdi class="iw-token">{cell?.tokens[main] ?? "…"}</bdi> over layers
          {cell && cell.tokens.length > 1 && <small> (faint: the others of the list)</small>}
        </div>
        {cell && (
          <Trajectory
            courses={cell.lines.map((values, k) => ({ name: cell.tokens[k]!, values }))}
            main={main}
            layers={prompt.layers}
            layer={layer}
            what={`probability of ${cell.tokens[main]!}`}
            onSelect={(chosen) => set({ layer: chosen })}
          />
        )}
      </div>
      <div class="iw-lens-writes" style={narrow ? "flex-basis:100%" : ""}>
        <div class="iw-caption">
          what each component wrote to the logit of{" "}
          <bdi class="iw-token">{writes?.token ?? cell?.tokens[main] ?? "…"}</bdi>
        </div>
        {writes ? <Writes writes={writes} /> : trouble(writesKey)}
      </div>
    </>
  );
}

function Likeliest({
  cell,
  at,
  chosen,
  onFollow,
}: {
  cell: CellTile;
  at: number; // the layer's place
  chosen: number | undefined;
  onFollow: (text: string) => void;
}) {
  const most = Math.max(...cell.lines.map((line) => line[at]!), 1e-9);
  return (
    <table>
      <tbody>
        {cell.tokens.map((token, i) => (
          <tr class={cell.ids[i] === chosen ? "iw-chosen" : ""}>
            <td>
              <button type="button" title={`Follow it · id ${cell.ids[i]!}`} onClick={() => onFollow(token)}>
                <bdi class="iw-token">{token}</bdi>
              </button>
            </td>
            <td class="iw-bar">
              <i style={{ width: `${(100 * cell.lines[i]![at]!) / most}%` }} />
              <span>{format(cell.lines[i]![at]!)}</span>
            </td>
            <td>
              <small>rank {count(cell.ranks[i]!)}</small>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Writes({ writes }: { writes: WritesTile }) {
  const terms = writes.labels.map((label, i): Term => {
    const [, layer] = /^L(\d+) attn$/.exec(label) ?? [];
    const heads = layer === undefined ? [] : (writes.heads[Number(layer)] ?? []);
    if (!heads.length) return { label, value: writes.values[i]! };
    const parts = heads.map((value, head) => ({ label: `L${layer!}H${head}`, value }));
    const rest = writes.values[i]! - heads.reduce((sum, value) => sum + value, 0);
    if (Math.abs(rest) > 1e-4) parts.push({ label: "bias of its output", value: rest });
    return { label, value: writes.values[i]!, parts };
  });
  const shown = terms.filter(({ label, value }) => label !== "rest" || Math.abs(value) > 1e-3);
  return (
    <>
      <Contributions terms={shown} label={`What the logit of ${writes.token} is the sum of`} />
      <div>
        sum: logit <b>{format(writes.total)}</b>
        {writes.softcap !== null && <small> before the soft-cap at {writes.softcap}</small>}
        <small> · the final norm divides by {format(writes.scale)} here</small>
      </div>
    </>
  );
}
