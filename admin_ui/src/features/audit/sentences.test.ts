import { describe, expect, it } from "vitest";

import { deedOf } from "@/features/audit/sentences";

describe("deeds", () => {
  it.each([
    ["site.revoked", { site: "zurich", reason: "left" }, "revoked the site zurich for good (left)"],
    ["invitation.created", { max_uses: 5 }, "made an invitation for 5 sites"],
    ["run.created", { name: "next", parent_run_id: "01a203f3-32aa" }, "created the run next, forked from 01a203f3-32a"],
    ["federation.changed", { changes: { name: ["a", "b"], retention: {} } }, "changed the federation: name, retention"],
    ["artifact.uploaded", { size: 1252, digest: "5a7dd635644e1f39" }, "uploaded a file of 1.25 kB, 5a7dd635644e"],
    ["audit.exported", { after: 0 }, "exported the audit log"],
    ["session.opened", {}, "signed in"],
    ["future.thing_done", {}, "future thing done"],
  ])("tells %s", (action, data, told) => expect(deedOf({ action, data })).toBe(told));
});
