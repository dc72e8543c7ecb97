/** Whose keys are whose: what the person who checks knows by another way than from the hub. */
import { isFingerprint, tidyFingerprint } from "@/integrity/signing";

import type { Ledger } from "@/features/receipts/verification/ledger";

export interface Trust {
  hubKeys: ReadonlySet<string>; // fingerprints
  siteKeys: ReadonlyMap<string, ReadonlySet<string>>; // fingerprints by site name
}

/** Reads fingerprints of the hub, one or more, between white space or commas. */
export function readHubKeys(text: string): { keys: Set<string>; strange: string[] } {
  const words = text.split(/[\s,]+/).filter(Boolean).map(tidyFingerprint);
  return { keys: new Set(words.filter(isFingerprint)), strange: words.filter((word) => !isFingerprint(word)) };
}

/** Reads NAME=FINGERPRINT, one a line; a site may have several keys. */
export function readSiteKeys(text: string): { keys: Map<string, Set<string>>; strange: string[] } {
  const keys = new Map<string, Set<string>>();
  const strange: string[] = [];
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    const [name, key] = [line.slice(0, Math.max(at, 0)).trim(), tidyFingerprint(line.slice(at + 1))];
    if (name === "" || !isFingerprint(key)) strange.push(line);
    else keys.set(name, (keys.get(name) ?? new Set()).add(key));
  }
  return { keys, strange };
}

/** Holds the keys that signed to those that are known; `shown` is the key that the hub shows today. */
export function checkKeys(
  ledger: Ledger,
  trust: Trust,
  signed: { hubKeys: ReadonlySet<string>; siteKeys: ReadonlyMap<string, ReadonlySet<string>> },
  shown: string,
): void {
  const known = [...trust.hubKeys].join(", ");
  for (const key of signed.hubKeys) {
    if (trust.hubKeys.size > 0) {
      const wrong = `receipts are signed with ${key}, you gave ${known}`;
      ledger.settle("hub key", "the hub", trust.hubKeys.has(key) ? [] : [wrong]);
      continue;
    }
    const says = key === shown ? "the hub shows the same key, which proves nothing" : `the hub shows another key today, ${shown}`;
    ledger.skip("hub key", "the hub", `receipts are signed with ${key}; ${says}: paste the fingerprint that its operator told you`);
  }
  for (const [name, keys] of signed.siteKeys) {
    const wanted = trust.siteKeys.get(name);
    for (const key of keys) {
      if (wanted === undefined) {
        ledger.skip("site key", `site ${name}`, "not known: paste what its operator reads from hansa site status");
      } else {
        const wrong = `updates are signed with ${key}, you gave ${[...wanted].join(", ")}`;
        ledger.settle("site key", `site ${name}`, wanted.has(key) ? [] : [wrong]);
      }
    }
  }
}
