import { Table, Text } from "@mantine/core";

import { Panel } from "@/components/Panel";
import type { ModelCard } from "@/features/models/models";
import { formatCount, formatMetric } from "@/format/sizes";

const KINDS: Record<string, string> = { eval: "evaluation", train: "training" };

/** How good a checkpoint is: means over sites, weighted by their examples. */
export function CardMetrics({ card }: { card: ModelCard }) {
  const metrics = card.metrics.toSorted(
    (one, other) => one.kind.localeCompare(other.kind) || one.name.localeCompare(other.name),
  );
  return (
    <Panel title="Metrics">
      {metrics.length === 0 ? (
        <Text size="sm" c="dimmed">
          Nobody has evaluated it: a run evaluates what it made where its plan has [evaluation].
        </Text>
      ) : (
        <>
          <Table verticalSpacing={6} horizontalSpacing={0}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Metric</Table.Th>
                <Table.Th>Of</Table.Th>
                <Table.Th ta="end">Value</Table.Th>
                <Table.Th ta="end">Examples</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody className="numbers">
              {metrics.map((metric) => (
                <Table.Tr key={`${metric.kind} ${metric.name}`}>
                  <Table.Td fw={560}>{metric.name}</Table.Td>
                  <Table.Td>{KINDS[metric.kind] ?? metric.kind}</Table.Td>
                  <Table.Td ta="end">{formatMetric(metric.value)}</Table.Td>
                  <Table.Td ta="end">{formatCount(metric.num_examples)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
          <Text size="xs" c="dimmed" mt={6}>
            Means over sites, weighted by their examples. Sites report them; nobody else has seen their data.
          </Text>
        </>
      )}
    </Panel>
  );
}
