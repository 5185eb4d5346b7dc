// A verdict: what was found, a counter-example, hints, the solution, and how far the module is.
import { useShared, useTraits, view } from "../view.tsx";
import { Live } from "../parts/live.tsx";

interface Found {
  name: string;
  status: "passed" | "recorded" | "wrong" | "not attempted" | "error";
  mark: string;
  said: string;
  misconception: string;
  advice: string;
  frames: string;
  example: string[];
  seed: number | null;
}
interface Traits {
  title: string;
  verdict: Found;
  module: { title: string; exercises: { name: string; title: string; state: string }[] };
  hints: string[];
  solution: string;
}

const TRAITS = ["title", "verdict", "module", "hints", "solution"] as const;

function Verdict() {
  const { model } = useShared();
  const [{ title, verdict, module, hints, solution }] = useTraits<Traits>(TRAITS);
  const live = model.get<boolean>("_live");
  const done = module.exercises.filter(({ state }) => state === "passed").length;
  return (
    <section class={`iw-verdict iw-${verdict.status.replace(" ", "-")}`} aria-label={title}>
      <p role="status">
        <b>
          {verdict.mark} {verdict.status}
        </b>{" "}
        {title}
      </p>
      {verdict.misconception && <strong>{verdict.misconception}</strong>}
      <p>{verdict.said}</p>
      {verdict.frames && <pre>{verdict.frames}</pre>}
      {verdict.example.length > 0 && <pre>{verdict.example.join("\n")}</pre>}
      {verdict.advice && <p>{verdict.advice}</p>}
      {hints.map((hint, i) => (
        <p>
          <b>Hint {i + 1}</b> {hint}
        </p>
      ))}
      {live && (
        <div class="iw-row">
          <button type="button" disabled={hints.length === 3} onClick={() => model.send({ hint: true })}>
            hint
          </button>
          <button type="button" onClick={() => model.send({ solution: true })}>
            solution
          </button>
        </div>
      )}
      {solution && <pre>{solution}</pre>}
      <small>
        {module.title}: {done} of {module.exercises.length}
      </small>
      <Live />
    </section>
  );
}

export default view(Verdict);
