import { describe, expect, it } from "vitest";

import { enrolCommand, problemOfName, standingOf, startCommand } from "@/features/sites/invitations";
import type { Invitation } from "@/features/sites/sites";

const NOW = new Date("2026-05-01T12:00:00Z");

function invitation(some: Partial<Invitation>): Invitation {
  return {
    id: "i", max_uses: 2, uses: 0, labels: {}, created_at: "2026-04-30T12:00:00Z",
    expires_at: "2026-05-02T12:00:00Z", revoked_at: null, ...some,
  };
}

describe("invitations", () => {
  it.each([
    [{}, "open"],
    [{ uses: 1 }, "open"],
    [{ uses: 2 }, "used"],
    [{ expires_at: "2026-05-01T12:00:00Z" }, "expired"],
    [{ uses: 2, revoked_at: "2026-05-01T11:00:00Z" }, "revoked"],
  ] as [Partial<Invitation>, string][])("with %j are %s", (some, standing) =>
    expect(standingOf(invitation(some), NOW)).toBe(standing),
  );

  it("put a name into the command, and leave it where there is none", () => {
    const command = "hansa site enroll http://127.0.0.1:8400 inv_NAME --name NAME";
    expect(enrolCommand(command, "oslo")).toBe("hansa site enroll http://127.0.0.1:8400 inv_NAME --name oslo");
    expect(enrolCommand(command, "")).toBe(command);
    expect(startCommand(" ")).toBe("hansa site run --trainer package.module:object");
  });

  it.each([
    ["", true],
    ["oslo-2", true],
    ["Oslo", false],
    ["oslo-", false],
    ["x".repeat(65), false],
  ])("take %s as a name: %s", (name, fine) => expect(problemOfName(name) === null).toBe(fine));
});
