/** A base checkpoint from a file of this computer: digest, bytes, checkpoint. */
import { apiHref } from "@/api/location";
import { ProblemError, UnreachableError, problemOf } from "@/api/problems";
import type { Checkpoint } from "@/api/types";
import { addCheckpoint } from "@/features/models/models";
import { digestOfFile } from "@/integrity/digests";

export interface Progress {
  step: "digest" | "upload";
  done: number; // bytes
  all: number;
}

/**
 * Uploads `file` and makes it the newest checkpoint of `model`.
 *
 * The hub takes a file under the SHA-256 of its bytes, so it is read twice: once for the digest.
 *
 * @throws ProblemError, UnreachableError; an AbortError when `signal` says so.
 */
export async function uploadCheckpoint(
  federation: string,
  model: string,
  file: File,
  parentId: string | null,
  tell: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<Checkpoint> {
  const all = file.size;
  const digest = await digestOfFile(file, (done) => tell({ step: "digest", done, all }), signal);
  await send(federation, digest, file, (done) => tell({ step: "upload", done, all }), signal);
  return addCheckpoint(federation, model, { digest, parent_id: parentId });
}

/** Puts the bytes; an XMLHttpRequest, since fetch tells nothing of how far an upload is. */
function send(
  federation: string,
  digest: string,
  file: File,
  tell: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", apiHref(`/v1/federations/${encodeURIComponent(federation)}/artifacts/${digest}`));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Hansa-Client", "console");
    request.upload.onprogress = (event) => tell(event.loaded);
    request.onerror = () => reject(new UnreachableError());
    request.onabort = () => reject(new DOMException("the upload was stopped", "AbortError"));
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(new ProblemError(problemOf(request.status, bodyOf(request.responseText))));
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

function bodyOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
