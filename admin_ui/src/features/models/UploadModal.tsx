/** A model and its base, or another base of a model, from a safetensors file of this computer. */
import { Button, FileInput, Group, Modal, Progress, Stack, Text, TextInput, Textarea } from "@mantine/core";
import { IconFile } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { useNavigate } from "react-router";

import { keys } from "@/api/keys";
import type { Model } from "@/api/types";
import { Command } from "@/components/Command";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { createCommand, uploadCommand } from "@/features/models/commands";
import { createModel, modelQuery } from "@/features/models/models";
import type { Progress as Done } from "@/features/models/upload";
import { uploadCheckpoint } from "@/features/models/upload";
import { formatBytes, formatShare } from "@/format/sizes";

const NAME = "[a-z0-9]([a-z0-9._\\-]{0,62}[a-z0-9])?"; // as the API has it

interface Props {
  slug: string;
  model?: Model; // that gets another base; without, a new one
  close: () => void;
}

export function UploadModal({ slug, model, close }: Props) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [name, setName] = useState(model?.name ?? "");
  const [description, setDescription] = useState("");
  const [file, setFile] = useState<File | null>(null);
  const [progress, setProgress] = useState<Done>();
  const created = useRef<string>(null); // by a try that failed later: its name is taken by us
  const running = useRef<AbortController>(null);
  useEffect(() => () => running.current?.abort(), []);
  const add = useAction({
    run: async () => {
      if (file === null) throw new Error("choose a safetensors file");
      const controller = new AbortController();
      running.current = controller;
      if (model === undefined && created.current !== name) {
        await createModel(slug, { name, description });
        created.current = name;
      }
      const parent = model === undefined ? null : (await client.query({ ...modelQuery(slug, name), staleTime: 0 })).latest_checkpoint_id;
      return uploadCheckpoint(slug, name, file, parent, setProgress, controller.signal);
    },
    quiet: true,
    done: model === undefined ? `Model ${name} is there` : "The newest checkpoint is your file",
    after: async (checkpoint) => {
      await client.invalidateQueries({ queryKey: keys.domain(slug, "models") });
      await navigate(`/f/${slug}/models/${encodeURIComponent(name)}/checkpoints/${checkpoint.id}`);
    },
  });
  return (
    <Modal
      opened
      onClose={close}
      size="lg"
      title={<Text fw={640}>{model === undefined ? "Add a model" : `Another base for ${model.name}`}</Text>}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          add.mutate();
        }}
      >
        <Stack>
          {model === undefined && (
            <>
              <TextInput
                label="Name"
                description="Lower case letters, digits, '.', '_' and '-'."
                placeholder="heart-disease"
                pattern={NAME}
                maxLength={64}
                required
                value={name}
                onChange={(event) => setName(event.currentTarget.value)}
                data-autofocus
              />
              <Textarea
                label="Description"
                description="What it is for, in a sentence or two."
                value={description}
                maxLength={5000}
                autosize
                minRows={2}
                maxRows={6}
                onChange={(event) => setDescription(event.currentTarget.value)}
              />
            </>
          )}
          <FileInput
            label="Base checkpoint"
            description={
              model === undefined
                ? "A safetensors file: the tensors that every site starts from. It fixes the model's layout."
                : "A safetensors file with the same tensors. Runs that are created after it begin with it."
            }
            placeholder="Choose a .safetensors file"
            accept=".safetensors"
            required
            value={file}
            onChange={setFile}
            leftSection={<IconFile size={16} aria-hidden />}
          />
          {progress !== undefined && add.isPending && (
            <div>
              <Text size="xs" c="dimmed" mb={4} className="numbers">
                {progress.step === "digest" ? "Computing the SHA-256" : "Uploading"}: {formatBytes(progress.done)} of{" "}
                {formatBytes(progress.all)}, {formatShare(progress.done, progress.all)}
              </Text>
              <Progress
                value={progress.all === 0 ? 0 : (100 * progress.done) / progress.all}
                aria-label={progress.step === "digest" ? "Computing the SHA-256" : "Uploading"}
              />
            </div>
          )}
          {add.isError && <Problem error={add.error} />}
          <Group justify="flex-end" gap="xs">
            <Button variant="default" onClick={close}>
              {add.isPending ? "Stop" : "Not now"}
            </Button>
            <Button type="submit" loading={add.isPending} disabled={file === null || name === ""}>
              {model === undefined ? "Add the model" : "Upload"}
            </Button>
          </Group>
          <Text size="xs" c="dimmed">
            From a terminal, for large files too: a cut upload goes on where it stopped. A trainer makes its own base with{" "}
            <span className="mono">--trainer package.module:object</span> in the place of <span className="mono">--from</span>.
          </Text>
          <Command text={model === undefined ? createCommand(slug, name || "MODEL") : uploadCommand(slug, model.name)} />
        </Stack>
      </form>
    </Modal>
  );
}
