import js from "@eslint/js";
import hooks from "eslint-plugin-react-hooks";
import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["**/*.mjs", "**/*.config.*"] },
  js.configs.recommended,
  ...ts.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    plugins: { "react-hooks": hooks },
    rules: {
      // Not exhaustive-deps: effects here depend on keys and ranges by their content, spelt out as strings.
      "react-hooks/rules-of-hooks": "error",
      // Text reaches the page through textContent only: a token is never markup.
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Use textContent: tokens and labels are text, never markup." },
        { property: "outerHTML", message: "Use textContent: tokens and labels are text, never markup." },
        { property: "insertAdjacentHTML", message: "Use textContent: tokens and labels are text, never markup." },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: "Use text children: tokens and labels are text, never markup.",
        },
      ],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/no-unused-expressions": ["error", { allowShortCircuit: true, allowTernary: true }],
      "@typescript-eslint/no-invalid-void-type": "off", // a reducer whose action is nothing
      "@typescript-eslint/no-non-null-assertion": "off", // an index within bounds that the compiler cannot see
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/unbound-method": "off", // `const { get } = useTiles()`: closures, not methods
      "@typescript-eslint/no-unnecessary-type-parameters": "off", // `get<T>(name)` is how a host types its traits
    },
  },
  {
    files: ["tests/**"],
    rules: {
      // A test reads what the view drew; it writes no page.
      "no-restricted-properties": "off",
      "@typescript-eslint/no-explicit-any": "off",
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/no-unsafe-argument": "off",
      "@typescript-eslint/no-unsafe-call": "off",
      "@typescript-eslint/no-unsafe-return": "off",
    },
  },
);
