/** The exact commands for what is done outside the browser. */
import type { Checkpoint } from "@/api/types";
import { fileName } from "@/features/models/models";

export function createCommand(federation: string, model = "MODEL"): string {
  return `hansa model create ${model} --federation ${federation} --from model.safetensors`;
}

export function uploadCommand(federation: string, model: string): string {
  return `hansa checkpoint upload ${model} model.safetensors --federation ${federation}`;
}

export function downloadCommand(federation: string, checkpoint: Checkpoint): string {
  return [`hansa checkpoint download ${checkpoint.id}`, `--federation ${federation} -o ${fileName(checkpoint)}`].join(" \\\n  ");
}

/** Python that reads the file's tensors: a dict of numpy arrays by name. */
export function loadCode(checkpoint: Checkpoint): string {
  return [
    "from pathlib import Path",
    "from hansa_core.tensors import view_tensors",
    "",
    `file = Path("${fileName(checkpoint)}").read_bytes()`,
    "tensors = view_tensors(memoryview(file))",
  ].join("\n");
}

/** Python that puts them into a PyTorch module of the same names. */
export function torchCode(): string {
  return ["from hansa.torch_states import load_tensors", "", "load_tensors(model, tensors)"].join("\n");
}

export function digestCommand(checkpoint: Checkpoint): string {
  return `echo "${checkpoint.digest}  ${fileName(checkpoint)}" \\
  | sha256sum --check`;
}
