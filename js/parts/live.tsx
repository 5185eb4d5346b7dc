// Whether anyone computes.
import { useShared, useSilence } from "../view.tsx";

export function Live() {
  const { model } = useShared();
  const silent = useSilence();
  if (!model.get("_live")) return <small class="iw-live"> saved copy: nothing is computed here</small>;
  if (!silent) return null;
  return (
    <small class="iw-live">
      {" "}
      not live: Python does not answer (busy, or no kernel). Shown is what came with the view.
    </small>
  );
}
