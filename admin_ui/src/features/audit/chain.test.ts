import { describe, expect, it } from "vitest";

import { BrokenChainError, ChainCheck, readHeads } from "@/features/audit/chain";
import { linesOf } from "@/features/audit/stream";
import { sha256Hex } from "@/integrity/digests";

function body(number: number, previous: string | null, name = "ada@example.org", federation: string | null = "f"): string {
  return JSON.stringify({
    action: "site.approved",
    actor: { address: "10.0.0.1", id: null, kind: "person", name, token_id: null },
    at: "2026-03-01T12:30:15.250000+00:00",
    data: { site: "Zürich" },
    federation_id: federation,
    number,
    previous,
    version: 1,
  });
}

function line(text: string): string {
  return JSON.stringify({ body: text, digest: sha256Hex(text) });
}

function log(length: number): string[] {
  const lines: string[] = [];
  let previous: string | null = null;
  for (let number = 1; number <= length; number += 1) {
    const text = body(number, previous);
    previous = sha256Hex(text);
    lines.push(line(text));
  }
  return lines;
}

function digestOf(text: string | undefined): string {
  return (JSON.parse(text ?? "") as { digest: string }).digest;
}

function check(lines: readonly string[], kept: { number: number; digest: string }[] = []) {
  const chain = new ChainCheck(kept);
  for (const one of lines) chain.take(one);
  return chain.finish();
}

describe("an audit log", () => {
  const lines = log(5);

  it("holds, and its head stands for it", () => {
    expect(check(lines)).toMatchObject({ owner: "f", head: { number: 5, digest: digestOf(lines[4]) } });
    expect(check([])).toBeNull();
    expect(check(lines, [{ number: 3, digest: digestOf(lines[2]) }])).not.toBeNull();
  });

  it("tells a changed entry", () => {
    const changed = lines.with(1, (lines[1] ?? "").replace("ada@", "eve@"));
    expect(() => check(changed)).toThrow(/entry 2 was changed/);
  });

  it("tells an entry that was written anew, by the next one", () => {
    const forged = lines.with(1, line(body(2, digestOf(lines[0]), "eve@example.org")));
    expect(() => check(forged)).toThrow(/entry 3 follows an entry with the digest/);
  });

  it("tells history that was rewritten whole, by a kept head", () => {
    const forged = [line(body(1, null, "eve@example.org"))];
    expect(check(forged)).not.toBeNull();
    expect(() => check(forged, [{ number: 1, digest: digestOf(lines[0]) }])).toThrow(/history was rewritten/);
  });

  it("tells what is missing, moved or cut off", () => {
    expect(() => check(lines.toSpliced(2, 1))).toThrow(/entry 3 is missing: the next one there is 4/);
    expect(() => check([...lines.slice(0, 2), ...lines.slice(0, 1)])).toThrow(/entry 3 is missing: entry 1 stands/);
    expect(() => check(lines.slice(0, 4), [{ number: 5, digest: digestOf(lines[4]) }])).toThrow(/entry 5 is missing: the entries end at 4/);
    expect(() => check([], [{ number: 5, digest: digestOf(lines[4]) }])).toThrow(BrokenChainError);
  });

  it("tells entries of another log", () => {
    const other = [lines[0] ?? "", line(body(2, digestOf(lines[0]), "ada@example.org", null))];
    expect(() => check(other)).toThrow(/belongs to the hub/);
  });

  it.each([
    ["no JSON", "nothing"],
    ["no entry", '{"body": 1, "digest": "2"}'],
    ["not canonical", line(body(1, null).replace('"action":', '"action": '))],
    ["another version", line(body(1, null).replace('"version":1', '"version":2'))],
    ["one field more", line(body(1, null).replace('"version":1', '"version":1,"x":1'))],
    ["another time", line(body(1, null).replace("+00:00", "+01:00"))],
  ])("refuses a line that is %s", (_, text) => expect(() => check([text])).toThrow(BrokenChainError));

  it("refuses two heads of one number", () => {
    expect(() => new ChainCheck([{ number: 1, digest: "a" }, { number: 1, digest: "b" }])).toThrow(/two digests/);
  });
});

describe("heads", () => {
  it("are read as the command prints them", () => {
    const digest = "a".repeat(64);
    expect(readHeads(`head 12:${digest}\n\n 7:${digest} \nnonsense`)).toEqual({
      heads: [{ number: 12, digest }, { number: 7, digest }],
      strange: ["nonsense"],
    });
  });
});

describe("lines of a stream", () => {
  async function read(...chunks: (string | number[])[]): Promise<string[]> {
    const lines: string[] = [];
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) {
          controller.enqueue(typeof chunk === "string" ? new TextEncoder().encode(chunk) : Uint8Array.from(chunk));
        }
        controller.close();
      },
    });
    for await (const one of linesOf(stream)) lines.push(one);
    return lines;
  }

  it("are whole wherever the chunks end", async () => {
    expect(await read("on", "e\ntwo\nth", "ree\n")).toEqual(["one", "two", "three"]);
    expect(await read("Z", [0xc3], [0xbc], "rich\n")).toEqual(["Zürich"]);
  });

  it("refuse a stream that was cut, and bytes that are no text", async () => {
    await expect(read("one\ntw")).rejects.toThrow(/within a line/);
    await expect(read([0xff, 0x0a])).rejects.toThrow();
  });
});
