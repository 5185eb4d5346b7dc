// A question with how sure one is: one of several statements, or a number.
import { OWN_KEYS } from "./controls.tsx";

export type Form = { later: boolean } & ( // a prediction: it is written down, and judged later
  { kind: "choice"; options: [letter: string, text: string][] } | { kind: "number"; what: string }
);
export type Answer = string | number | null;

const SURE = [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

/** Closed, it shows which statement was chosen; waiting, that the answer is on its way. */
export function Question({
  form,
  answer,
  confidence,
  open,
  waiting,
  onAnswer,
  onConfidence,
  onSubmit,
}: {
  form: Form;
  answer: Answer;
  confidence: number | null;
  open: boolean;
  waiting: boolean;
  onAnswer: (answer: Answer) => void;
  onConfidence: (confidence: number) => void;
  onSubmit: () => void;
}) {
  if (!open && form.kind === "number") return null;
  const missing = [answer === null && "answer", confidence === null && "say how sure you are"].filter(Boolean);
  return (
    <form
      class="iw-question"
      onSubmit={(event) => {
        event.preventDefault();
        if (!missing.length && !waiting) onSubmit();
      }}
    >
      {form.kind === "choice" ? (
        <fieldset aria-label="Options" disabled={!open} {...OWN_KEYS}>
          {form.options.map(([letter, text]) => (
            <label>
              <input
                type="radio"
                name="option"
                checked={answer === letter || answer === text}
                onChange={() => onAnswer(letter)}
              />
              <b>{letter}</b> <span>{text}</span>
            </label>
          ))}
        </fieldset>
      ) : (
        <label class="iw-row">
          <input
            type="number"
            step="any"
            value={answer ?? ""}
            onInput={({ currentTarget: { valueAsNumber } }) =>
              onAnswer(Number.isFinite(valueAsNumber) ? valueAsNumber : null)
            }
          />
          {form.what}
        </label>
      )}
      {open && (
        <>
          <fieldset class="iw-row" aria-label="How sure are you?" {...OWN_KEYS}>
            <span>How sure are you?</span>
            {SURE.map((share) => (
              <label>
                <input type="radio" name="sure" checked={confidence === share} onChange={() => onConfidence(share)} />
                {100 * share} %
              </label>
            ))}
          </fieldset>
          <div class="iw-row">
            <button type="submit" disabled={missing.length > 0 || waiting}>
              {waiting ? "one moment …" : form.later ? "write it down" : "check"}
            </button>
            <small>
              {missing.length ? (
                `first ${missing.join(", and ")}`
              ) : (
                <>
                  to hand the notebook in, write it:{" "}
                  <code>
                    check({JSON.stringify(answer)}, confidence={confidence})
                  </code>
                </>
              )}
            </small>
          </div>
        </>
      )}
    </form>
  );
}
