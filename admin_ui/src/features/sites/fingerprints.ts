/** Comparing the fingerprint that the hub has with the one that a site's operator reads out. */

export interface Group {
  expected: string;
  typed: string;
  verdict: "same" | "different" | "open"; // open: nothing, or not all of it, is typed
}

export interface Comparison {
  verdict: "same" | "different" | "open";
  groups: Group[];
}

const GROUP = 4; // characters

/** Compares group by group, whatever spaces, dashes and capitals were typed. */
export function compareFingerprints(expected: string, typed: string): Comparison {
  const letters = bare(typed);
  const wanted = bare(expected);
  const groups: Group[] = [];
  for (let start = 0; start < wanted.length; start += GROUP) {
    const theirs = letters.slice(start, start + GROUP);
    const ours = wanted.slice(start, start + GROUP);
    groups.push({ expected: ours, typed: theirs, verdict: verdictOf(ours, theirs) });
  }
  if (letters === wanted) return { verdict: "same", groups };
  const differs = letters.length > wanted.length || groups.some((group) => group.verdict === "different");
  return { verdict: differs ? "different" : "open", groups };
}

function verdictOf(ours: string, theirs: string): Group["verdict"] {
  if (ours === theirs) return "same";
  return ours.startsWith(theirs) ? "open" : "different";
}

function bare(fingerprint: string): string {
  return fingerprint.toLowerCase().replaceAll(/[\s–-]+/g, "");
}
