// Attention: all heads small, one large as a matrix or arcs, and its tokens as a strip.
import { useMemo, useState } from "preact/hooks";
import { count, type Scale } from "../colour.ts";
import { Arcs } from "../parts/arcs.tsx";
import { type Cell, keys, type Panel, type Prompt, TRAITS, type Traits, type Viewport } from "../parts/attention.ts";
import { Choice, Select, Toggle } from "../parts/controls.tsx";
import { Heads } from "../parts/heads.tsx";
import { Legend } from "../parts/legend.tsx";
import { Line } from "../parts/line.tsx";
import { Matrix, zoomed } from "../parts/matrix.tsx";
import { activeOf, Pointer } from "../parts/pointer.ts";
import { clippedShare, largest } from "../parts/range.ts";
import { fit, useSearch, useViewport } from "../parts/state.ts";
import { Status } from "../parts/status.tsx";
import type { Token } from "../parts/token.tsx";
import { Ablation, reading, unit, Weigh, weighing } from "../parts/weigh.tsx";
import { NARROW, px, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

const fade = (token: Token | undefined, position: number) => position === 0 || !!token?.special;

function Attention() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { prompts, layer, aggregate, direction, pooling } = traits;
  const minus = traits.difference && traits.compare !== null ? traits.compare : -1;
  const prompt = promptOf(prompts, traits.prompt, minus);
  const [, , queries, nKeys] = prompt.shape;
  const width = useWidth();
  const dark = useDark();
  const [pointer] = useState(() => new Pointer());
  const [painting, setPainting] = useState(false);
  const [viewport, setViewport] = useViewport(traits, set, queries, nKeys);

  const head = aggregate === "none" ? traits.head : aggregate;
  const weigh = weighing(traits);
  const panel: Panel = { prompt: traits.prompt, minus, weigh, layer, head };
  const beside: Panel | null =
    traits.compare !== null && traits.compare !== traits.prompt && minus < 0
      ? { prompt: traits.compare, minus: -1, weigh, layer, head }
      : null;

  // Colours: heads share one scale, so that thumbnails compare; the large head uses the colours up to its own maximum.
  const atlasKey = keys.atlas(panel, "max"); // up to the largest weight, whatever a pixel shows
  const atlas = useTiles([atlasKey]).get(atlasKey);
  const signed = minus >= 0 || traits.weigh === "logit";
  const [low, chosen] = traits.colour_range as [number?, number?];
  const scaleUpTo = (high: number): Scale => ({
    kind: traits.scale,
    low: low ?? 0,
    high: chosen ?? high,
    floor: 1 / (16 * nKeys), // a sixteenth of uniform attention
    signed,
    dark,
  });
  const highest = useMemo(() => largest(atlas, panel, traits.dim_special), [atlas, layer, head, traits.dim_special]);
  const scale = useMemo(() => scaleUpTo(highest), [traits.scale, low, chosen, highest, atlas, signed, dark]);
  const shared = useMemo(() => scaleUpTo(atlas?.high ?? 1), [traits.scale, low, chosen, atlas, signed, dark]);
  const clipped = useMemo(() => clippedShare(atlas, panel, prompt.causal, scale), [atlas, layer, head, scale]);

  const select = ({ query = traits.query, key = traits.key }: { query?: number | null; key?: number | null }) =>
    query === traits.query && key === traits.key ? set({ query: null, key: null }) : set({ query, key });
  const choosePrompt = (next: number) => {
    set({
      prompt: next,
      ...(next === traits.compare && { compare: traits.prompt }), // they change places
      query: null,
      key: null,
      viewport: [],
      region: [],
      ...(traits.sort_by === "region" && { sort_by: "" }),
    });
    pointer.set(null);
  };

  const panelName = (each: Panel) =>
    prompts[each.prompt]!.name + (each.minus >= 0 ? ` − ${prompts[each.minus]!.name}` : "");
  const all = viewport.join() === whole(prompt).join();
  const narrow = width < NARROW;
  const left = narrow ? width : Math.min(0.42 * width, 700);
  const room = narrow ? width : width - left - 24;
  const panels = beside ? [panel, beside] : [panel];
  const labels = width < 480 ? 56 : 76; // for tokens beside the matrix
  const size = Math.floor(Math.max(120, Math.min(beside && !narrow ? room / 2 - labels - 16 : room - labels - 8, 640)));
  const found = useSearch(traits, prompt, panel.prompt);
  const faded = traits.dim_special ? fade : null;
  const shown = aggregate === "none" ? `layer ${layer}, head ${traits.head}` : aggregate === "rollout" ? `rollout to layer ${layer}` : `${aggregate} over the heads of layer ${layer}`; // prettier-ignore
  const label = traits.labels.find(([l, h]) => aggregate === "none" && l === layer && h === traits.head)?.[2];
  const pooled = Math.max(queries, nKeys) > 64;

  const tokens = (
    <>
      <div class="iw-row">
        <strong>Tokens</strong>
        <Choice
          label="shaded by attention"
          value={direction}
          options={["query", "key"]}
          names={["from a query", "to a key"]}
          onChange={(next) => set({ direction: next })}
        />
        <label>
          search{" "}
          <input
            type="search"
            value={traits.search}
            placeholder="token"
            onInput={(event) => set({ search: event.currentTarget.value })}
          />
        </label>
        {traits.search && (
          <span>
            {count(found.places.length)} found
            {found.places.length > 0 && (
              <button
                type="button"
                onClick={() =>
                  set({ [direction]: found.next(activeOf(pointer.cell(traits), direction, queries).active) })
                }
              >
                next
              </button>
            )}
          </span>
        )}
      </div>
      {panels.map((each) => (
        <Line
          key={each.prompt}
          {...{ traits, panel: each, scale, pointer, faded, found: found.set }}
          onSelect={select}
        />
      ))}
    </>
  );

  return (
    <section class={narrow ? "iw-attention iw-narrow" : "iw-attention"} aria-label={traits.title}>
      <header class="iw-row">
        <strong class="iw-title">{traits.title}</strong>
        {prompts.length > 1 && (
          <>
            <Select
              label="prompt"
              value={traits.prompt}
              options={prompts.map(({ name }, i) => [i, name])}
              onChange={choosePrompt}
            />
            <Select
              label="beside"
              value={traits.compare ?? -1}
              options={[
                [-1, "nothing"],
                ...prompts.map(({ name }, i) => [i, name] as [number, string]).filter(([i]) => i !== traits.prompt),
              ]}
              onChange={(other) => set({ compare: other < 0 ? null : other, ...(other < 0 && { difference: false }) })}
            />
            {traits.compare !== null && (
              <Toggle
                label="difference"
                value={traits.difference}
                onChange={(difference) => set({ difference, colour_range: [] })}
              />
            )}
          </>
        )}
        <span class="iw-about">
          {plural(prompt.shape[0], "layer")} × {plural(prompt.shape[1], "head")},{" "}
          {queries === nKeys
            ? plural(nKeys, "token")
            : `${plural(queries, "query token")}, ${plural(nKeys, "key token")}`}
          . {reading(traits.weigh, traits.token)}
          {minus >= 0 && " Shown is the first prompt minus its counterpart in the second."}
        </span>
        {prompt.recorded && <Weigh traits={traits} set={set} />}
      </header>
      <div class="iw-columns">
        <div style={px({ width: left })}>
          <Heads
            prompt={prompt}
            whose={panel}
            of={prompts.length > 1 ? panelName(panel) : ""}
            width={left - 4}
            scale={shared}
            pooling={pooling}
            layer={layer}
            head={aggregate === "none" ? traits.head : -1}
            labels={traits.labels}
            sortBy={traits.sort_by}
            region={traits.region}
            scoreNames={traits.score_names}
            onSelect={(l, h) => set({ layer: l, head: h, aggregate: "none" })}
            onSort={(name) => set({ sort_by: name })}
          />
          {!narrow && tokens}
        </div>
        <div class="iw-large">
          <div class="iw-row">
            <strong>
              {shown[0]!.toUpperCase() + shown.slice(1)}
              {label && <em> {label}</em>}
            </strong>
            <Select
              label="show"
              value={aggregate}
              options={[
                ["none", "this head"],
                ["mean", "mean over heads"],
                ["max", "max over heads"],
                ["rollout", "rollout over layers"],
              ]}
              onChange={(next) => set({ aggregate: next })}
            />{" "}
            {/* prettier-ignore */}
            <Choice label="as" value={traits.reading} options={["matrix", "arcs"]} onChange={(reading) => set({ reading })} />
          </div>
          <div class="iw-panels">
            {panels.map((each) => {
              const own = promptOf(prompts, each.prompt, each.minus);
              const name = panelName(each);
              const drawing = {
                prompt: own,
                panel: each,
                scale,
                viewport: all ? whole(own) : fit(viewport, own.shape[2], own.shape[3]),
                pointer,
                selected: traits,
                onSelect: select,
              };
              return (
                <figure key={each.prompt}>
                  {prompts.length > 1 && <figcaption>{name}</figcaption>}
                  {traits.reading === "matrix" ? (
                    <Matrix
                      {...drawing}
                      size={size}
                      labels={labels}
                      pooling={pooling}
                      region={traits.region}
                      painting={painting}
                      faded={faded}
                      label={`Attention, ${shown}${prompts.length > 1 ? `, ${name}` : ""}: rows are queries, columns keys. Arrow keys move the selection, plus and minus zoom.`}
                      onViewport={setViewport}
                      onPaint={(region) => {
                        setPainting(false);
                        set({ region, sort_by: "region" });
                      }}
                    />
                  ) : (
                    <Arcs {...drawing} width={Math.min(size + labels, room)} />
                  )}
                </figure>
              );
            })}
          </div>
          <Status traits={traits} prompt={prompt} panel={panel} pointer={pointer} />
          {prompt.recorded && <Ablation traits={traits} set={set} panel={panel} prompt={prompt} />}
          <div class="iw-row">
            <Legend
              scale={scale}
              what={minus >= 0 ? `difference: ${unit(traits.weigh)}` : unit(traits.weigh)}
              automatic={chosen === undefined}
              clipped={clipped}
              onRange={(range) => set({ colour_range: range })}
            />
          </div>
          <div class="iw-row">
            <Choice
              label="colour"
              value={traits.scale}
              options={["linear", "sqrt", "log"]}
              onChange={(kind) => set({ scale: kind })}
            />
            {pooled && (
              <Choice
                label="a pixel shows the"
                value={pooling}
                options={["max", "mean"]}
                onChange={(next) => set({ pooling: next })}
              />
            )}
            <Toggle
              label="fade special"
              title="Fade special tokens and the first position, which often take attention that goes nowhere; colours ignore the first"
              value={traits.dim_special}
              onChange={(dim_special) => set({ dim_special })}
            />
            {traits.reading === "matrix" && (
              <>
                <span class="iw-group" role="group" aria-label="zoom">
                  <button
                    type="button"
                    title="Zoom out (−)"
                    onClick={() => setViewport(zoomed(viewport, queries, nKeys, 2))}
                  >
                    −
                  </button>
                  <button
                    type="button"
                    title="Zoom in (+, double click, Ctrl + wheel); drag to move"
                    onClick={() => setViewport(zoomed(viewport, queries, nKeys, 0.5, centre(pointer.cell(traits))))}
                  >
                    +
                  </button>
                  <button type="button" title="Everything (0)" onClick={() => setViewport(whole(prompt))}>
                    all
                  </button>
                </span>
                <Toggle
                  label="paint a region"
                  title="Drag over the matrix (or hold Shift): heads are ranked by the attention they spend there"
                  value={painting}
                  onChange={setPainting}
                />
                {traits.region.length > 0 && (
                  <button
                    type="button"
                    onClick={() => set({ region: [], ...(traits.sort_by === "region" && { sort_by: "" }) })}
                  >
                    clear region
                  </button>
                )}
              </>
            )}
          </div>
        </div>
      </div>
      {narrow && tokens}
    </section>
  );
}

const plural = (of: number, what: string) => `${count(of)} ${what}${of === 1 ? "" : "s"}`;
/** A prompt, or the difference of two: causal if both are. */
const promptOf = (prompts: Prompt[], prompt: number, minus: number): Prompt => ({
  ...prompts[prompt]!,
  causal: prompts[prompt]!.causal && (minus < 0 || prompts[minus]!.causal),
});
const whole = ({ shape }: Prompt): Viewport => [0, shape[2], 0, shape[3]];
const centre = ({ query, key }: Partial<Cell>) =>
  query === undefined || key === undefined ? undefined : { query, key };

export default view(Attention);
