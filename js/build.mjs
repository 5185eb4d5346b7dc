// One bundle per view: js/views/attention.tsx becomes interpwidgets/static/attention.js, js/host.ts becomes host.js.
//
//   node js/build.mjs           minified, without source maps: what is shipped
//   node js/build.mjs --watch   readable, with inline source maps, built again at every change
import { context } from "esbuild";
import { readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { deflateSync } from "node:zlib";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`interpwidgets needs Node 20.19 or newer; this is ${process.version}. See https://nodejs.org.`);
  process.exit(1);
}

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(root, "interpwidgets/static");
const watch = process.argv.includes("--watch");
const views = readdirSync(join(root, "js/views")).filter((name) => name.endsWith(".tsx"));

// A bundle whose source is gone must not be shipped.
const expected = new Set([...views.map((name) => name.replace(/\.tsx$/, ".js")), "host.js"]);
for (const name of readdirSync(out)) {
  if (/\.(js|map)$/.test(name) && !expected.has(name)) rmSync(join(out, name));
}

/** A module that unpacks itself: a view's script travels with every instance, and deflated it is half as long. */
function pack(path) {
  const packed = deflateSync(readFileSync(path), { level: 9 }).toString("base64");
  const unpack = [
    `const d=Uint8Array.from(atob("${packed}"),c=>c.charCodeAt(0)),`,
    `s=new Response(d).body.pipeThrough(new DecompressionStream("deflate")),`,
    `u=URL.createObjectURL(new Blob([await new Response(s).text()],{type:"text/javascript"})),`,
    `m=await import(u);URL.revokeObjectURL(u);export default m.default;`,
  ];
  writeFileSync(path, unpack.join(""));
}

const build = await context({
  absWorkingDir: root,
  entryPoints: [...views.map((name) => `js/views/${name}`), "js/host.ts"],
  outdir: out,
  entryNames: "[name]",
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  minify: !watch,
  sourcemap: watch ? "inline" : false,
  define: { "process.env.NODE_ENV": watch ? '"development"' : '"production"' },
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "info",
});
if (watch) {
  await build.watch();
} else {
  try {
    await build.rebuild();
    for (const name of views) pack(join(out, name.replace(/\.tsx$/, ".js")));
    // An output that came out the same keeps its old date otherwise, and would look older than its sources.
    for (const name of expected) utimesSync(join(out, name), new Date(), new Date());
  } catch {
    process.exitCode = 1; // esbuild has said why
  }
  await build.dispose();
}
