/** Colours, type and shapes: one theme for light and dark. */
import type { CSSVariablesResolver, MantineColorsTuple } from "@mantine/core";
import { createTheme, rem } from "@mantine/core";

const hansa: MantineColorsTuple = [
  "#e4f6f7", "#cbe9eb", "#9bd4d8", "#66bdc4", "#3fa9b2", "#2499a3", "#138a94", "#06747d", "#00626b", "#004f57",
];
const dark: MantineColorsTuple = [
  "#dfe5ec", "#bcc6d1", "#97a4b3", "#6f7d8d", "#414d5b", "#313b47", "#242d37", "#161c23", "#11161c", "#0b0f13",
];

/** Text on a tint of its own colour, dark enough in light mode (contrast 4.5 : 1 and more). */
const ON_TINT: Record<string, string> = {
  hansa: "#00565e",
  green: "#17612a",
  yellow: "#724900",
  orange: "#8a3a06",
  red: "#a61b1b",
  blue: "#14509c",
  cyan: "#0a5a69",
  gray: "#434d57",
  grape: "#7a1f8c",
  violet: "#5530b8",
};

/** The same in dark mode: the text, and the tint's red, green and blue. */
const ON_DARK_TINT: Record<string, readonly [text: string, tint: string]> = {
  hansa: ["#9bd4d8", "63 169 178"],
  green: ["#8fdfa0", "64 192 87"],
  yellow: ["#ffd666", "250 176 5"],
  orange: ["#ffb585", "253 126 20"],
  red: ["#ffaaaa", "250 82 82"],
  blue: ["#9ccbff", "34 139 230"],
  cyan: ["#86dcec", "21 170 191"],
  gray: ["#c6cfd9", "134 146 160"],
  grape: ["#e8b0f2", "190 75 219"],
  violet: ["#c8b6ff", "121 80 242"],
};

export const theme = createTheme({
  primaryColor: "hansa",
  primaryShade: { light: 8, dark: 7 },
  colors: { hansa, dark },
  fontFamily: "'Inter Variable', system-ui, sans-serif",
  fontFamilyMonospace: "'JetBrains Mono Variable', ui-monospace, monospace",
  headings: {
    fontFamily: "'Inter Variable', system-ui, sans-serif",
    fontWeight: "640",
    sizes: { h1: { fontSize: rem(25) }, h2: { fontSize: rem(18) }, h3: { fontSize: rem(15) } },
  },
  defaultRadius: "md",
  cursorType: "pointer",
  components: {
    Tooltip: { defaultProps: { openDelay: 250, withArrow: true, multiline: true, maw: 360 } },
    Table: { defaultProps: { verticalSpacing: "xs", highlightOnHover: true } },
    Modal: { defaultProps: { centered: true, closeButtonProps: { "aria-label": "Close" }, overlayProps: { blur: 2, backgroundOpacity: 0.5 } } },
    Code: { defaultProps: { fz: "xs" } },
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-dimmed": "#56616c",
    "--mantine-color-placeholder": "#6b7681",
    "--mantine-color-anchor": "#00626b",
    "--mantine-color-error": "#b42318",
    "--hansa-page": "#f6f8f9",
    "--hansa-panel": "#ffffff",
    "--hansa-line": "#dfe5e9",
    "--hansa-hover": "#eef3f5",
    ...Object.fromEntries(
      Object.entries(ON_TINT).map(([name, value]) => [`--mantine-color-${name}-light-color`, value]),
    ),
  },
  dark: {
    "--mantine-color-dimmed": "#9aa7b5",
    "--mantine-color-anchor": "#66bdc4",
    "--mantine-color-error": "#ff8787",
    "--hansa-page": "#11161c",
    "--hansa-panel": "#181f27",
    "--hansa-line": "#2b3540",
    "--hansa-hover": "#1f2832",
    "--mantine-color-body": "#181f27",
    ...Object.fromEntries(
      Object.entries(ON_DARK_TINT).flatMap(([name, [text, tint]]) => [
        [`--mantine-color-${name}-light`, `rgb(${tint} / 18%)`],
        [`--mantine-color-${name}-light-hover`, `rgb(${tint} / 26%)`],
        [`--mantine-color-${name}-light-color`, text],
      ]),
    ),
  },
});

/** Colours of lines in a chart: told apart in both schemes, the aggregate's own first. */
export const LINE_COLOURS = [
  "hansa.6", "orange.6", "violet.5", "pink.6", "blue.5", "lime.7", "yellow.7", "cyan.7", "red.6", "grape.5",
] as const;
