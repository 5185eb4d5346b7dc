// A verdict: what was found, a counter-example, three hints one by one, the solution, and how far the module is.
import { useState } from "preact/hooks";
import { Live } from "../parts/live.tsx";
import { type Answer, type Form, Question } from "../parts/question.tsx";
import { useShared, useTraits, view } from "../view.tsx";

interface Found {
  name: string;
  status: "passed" | "recorded" | "wrong" | "not attempted" | "error";
  mark: string;
  said: string;
  misconception: string;
  advice: string;
  frames: string;
  example: [string, string][];
  seed: number | null;
}
interface Traits {
  title: string;
  verdict: Found;
  module: { title: string; exercises: { name: string; title: string; state: string }[] };
  hints: string[];
  solution: { code?: string; why?: string }; // empty until it is opened
  form: Form | null; // how the answer is asked for; null where it is a function, or in a view
  answer: Answer;
  confidence: number | null;
  _submitted: number; // how often, as Python counts
}

const TRAITS = [
  "title",
  "verdict",
  "module",
  "hints",
  "solution",
  "form",
  "answer",
  "confidence",
  "_submitted",
] as const;
const HINTS = 3;

function Verdict() {
  const { model } = useShared();
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { title, verdict, module, hints, solution, form, _submitted } = traits;
  const live = model.get<boolean>("_live");
  const { status, mark, misconception, said, frames, example, advice, seed } = verdict;
  const done = status === "passed" || status === "recorded";
  const [sent, setSent] = useState(_submitted);
  return (
    <section class={`iw-verdict iw-is-${status.replace(" ", "-")}`} aria-label={title}>
      <div class="iw-row" role="status">
        <strong class="iw-title">{title}</strong>
        <b class="iw-found">
          {mark} {status}
        </b>
      </div>
      {misconception && <p class="iw-misconception">{misconception}</p>}
      {!(form && status === "not attempted") && <Text text={said} />}
      {form && (
        <Question
          form={form}
          answer={traits.answer}
          confidence={traits.confidence}
          open={live && !done}
          waiting={sent > _submitted}
          onAnswer={(answer) => set({ answer })}
          onConfidence={(confidence) => set({ confidence })}
          onSubmit={() => {
            setSent(_submitted + 1);
            model.send({ submit: true });
          }}
        />
      )}
      {frames && <pre class="iw-code">{frames}</pre>}
      {example.length > 0 && <Example rows={example} />}
      {advice && <Text text={advice} />}
      {hints.map((hint, i) => (
        <div class="iw-hint">
          <b>Hint {i + 1}</b> <Inline text={hint} />
        </div>
      ))}
      {solution.why !== undefined && (
        <div class="iw-hint">
          <b>Solution</b>
          {solution.code && <pre class="iw-code">{solution.code}</pre>}
          <Text text={solution.why} />
        </div>
      )}
      {live && (
        <div class="iw-row">
          {!done && hints.length < HINTS && (
            <button type="button" onClick={() => model.send({ hint: true })}>
              {hints.length ? "next hint" : "hint"} ({hints.length + 1} of {HINTS})
            </button>
          )}
          {solution.why === undefined && (done || !form?.later) && (
            <button type="button" onClick={() => model.send({ solution: true })}>
              solution
            </button>
          )}
          {status === "wrong" && seed !== null && <small>the same inputs again: check(…, seed={seed})</small>}
        </div>
      )}
      <Progress module={module} now={verdict.name} />
      <Live />
    </section>
  );
}

/** Inputs, what came out, and what should have. */
function Example({ rows }: { rows: [string, string][] }) {
  return (
    <table class="iw-example">
      <tbody>
        {rows.map(([what, value]) => (
          <tr>
            <th scope="row">{what}</th>
            <td>
              <pre>{value}</pre>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The exercises of the module, a mark each. */
function Progress({ module, now }: { module: Traits["module"]; now: string }) {
  const done = module.exercises.filter(({ state }) => state === "passed").length;
  return (
    <div class="iw-row iw-progress">
      <small>
        {module.title}: {done} of {module.exercises.length} done
      </small>
      <ol aria-label={`Exercises of ${module.title}`}>
        {module.exercises.map(({ name, title, state }) => (
          <li
            class={`iw-is-${state.replace(" ", "-")}`}
            aria-current={name === now ? "step" : undefined}
            aria-label={`${title}: ${state}`}
            title={`${title}: ${state}`}
          />
        ))}
      </ol>
    </div>
  );
}

/** Paragraphs. */
const Text = ({ text }: { text: string }) => (
  <>
    {text.split("\n").map((line) => (
      <p>
        <Inline text={line} />
      </p>
    ))}
  </>
);

/** Text with `code` in it. */
const Inline = ({ text }: { text: string }) => (
  <>{text.split("`").map((part, i) => (i % 2 ? <code>{part}</code> : part))}</>
);

export default view(Verdict);
