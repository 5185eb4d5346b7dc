// What a weight is worth: the pattern alone, times the length of what is carried, or times what that adds to a logit.
import { useEffect, useState } from "preact/hooks";
import { useTiles } from "../view.tsx";
import { keys, type Panel, type Prompt, type Traits } from "./attention.ts";
import { Select } from "./controls.tsx";
import { type Outcome, OutcomeTable } from "./outcome.tsx";

type Set = (some: Partial<Traits>) => void;

/** What stands in the keys of tiles for how weights are weighed. */
export const weighing = ({ weigh, token }: Traits) =>
  weigh === "logit" ? `logit ${token}`.trim() : weigh === "value" ? weigh : "";

export function Weigh({ traits, set }: { traits: Traits; set: Set }) {
  const { weigh, token } = traits;
  const [typed, setTyped] = useState(token);
  useEffect(() => setTyped(token), [token]);
  return (
    <>
      <Select
        label="weights"
        value={weigh}
        options={[
          ["attention", "attention"],
          ["value", "× length of value"],
          ["logit", "× effect on a logit"],
        ]}
        onChange={(next) => set({ weigh: next, colour_range: [] })}
      />
      {weigh === "logit" && (
        <label title="The token whose logit it is, as the prompt spells it (␣ for a space). Empty: at each query, the token that comes next; at the last one, the model's first guess.">
          of{" "}
          <input
            type="text"
            size={10}
            value={typed}
            placeholder="the next token"
            onInput={(event) => setTyped(event.currentTarget.value)}
            onChange={(event) => set({ token: event.currentTarget.value })}
          />
        </label>
      )}
    </>
  );
}

/** How to read the numbers, in a sentence. */
export function reading(weigh: Traits["weigh"], token: string) {
  if (weigh === "value") return "Each cell is attention × ‖value · W_O‖: the length of what moves from key to query.";
  if (weigh === "logit")
    return `Each cell is what moves from key to query, as added directly to the logit of ${token || "the token that comes next"} there.`;
  return "Each row is a query token; its weights over the key tokens sum to 1.";
}

export const unit = (weigh: Traits["weigh"]) =>
  ({ attention: "attention weight", value: "length of what is carried", logit: "added to the logit" })[weigh];

/** What becomes of the next token without the head that is selected. */
export function Ablation({ traits, set, panel, prompt }: { traits: Traits; set: Set; panel: Panel; prompt: Prompt }) {
  const position = Math.min(traits.query ?? prompt.shape[2] - 1, prompt.shape[2] - 1);
  const { head } = panel;
  const shown = traits.ablate !== "none" && typeof head === "number";
  const key = shown ? keys.ablate(panel.prompt, panel.layer, head, traits.ablate, position) : "";
  const { get, errors } = useTiles(shown ? [key] : []);
  const outcome = shown ? (get(key)?.json as Outcome | undefined) : undefined;
  return (
    <div class="iw-ablation">
      <Select
        label="without this head"
        value={traits.ablate}
        options={[
          ["none", "not tried"],
          ["zero", "zero in its place"],
          ["mean", "its mean in its place"],
        ]}
        onChange={(next) => set({ ablate: next })}
      />
      {traits.ablate === "none" ? (
        <small> A pattern says where a head looks; run the model without it to see whether that matters.</small>
      ) : !shown ? (
        <small> Choose one head.</small>
      ) : errors.length ? (
        <small role="alert">
          {" "}
          {errors[0] === "not stored in this page" ? "This needs a running kernel." : errors[0]}
        </small>
      ) : outcome ? (
        <OutcomeTable outcome={outcome} names={["as it is", "without"]} />
      ) : (
        <small> running the model…</small>
      )}
    </div>
  );
}
