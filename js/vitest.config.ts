import { playwright } from "@vitest/browser-playwright";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// One place knows where browsers live: scripts/browser. It prints nothing when Playwright's own should be used.
const find = fileURLToPath(new URL("../scripts/browser", import.meta.url));
const executablePath = process.env.IW_CHROMIUM ?? execFileSync("sh", [find], { encoding: "utf8" }).trim();
const args = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
args.push("--disable-component-update", "--disable-sync");

export default defineConfig({
  cacheDir: "../node_modules/.vite",
  // Named here, so that no dependency is discovered half-way and the page reloaded under a running test.
  optimizeDeps: { include: ["preact", "preact/hooks", "preact/jsx-dev-runtime", "preact/jsx-runtime"] },
  server: { fs: { allow: [".."] } },
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({
        launchOptions: { ...(executablePath && { executablePath }), args },
      }),
      instances: [{ browser: "chromium" }],
    },
  },
});
