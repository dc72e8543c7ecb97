import { Text } from "@mantine/core";
import { queryOptions, useQuery } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import { Facts } from "@/components/Facts";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { Digest } from "@/components/values";

export const hubQuery = queryOptions({
  queryKey: keys.hub,
  queryFn: ({ signal }) => unwrap(api.GET("/v1/hub", { signal })),
  staleTime: Infinity,
});

/** The key that receipts are signed with, as the hub tells it. */
export function HubKey() {
  const hub = useQuery(hubQuery);
  return (
    <Panel title="The hub's key">
      <QueryView query={hub} rows={2}>
        {({ name, version, fingerprint }) => (
          <>
            <Facts
              facts={[
                ["Fingerprint", <Digest key="key" value={fingerprint} name="fingerprint" characters={80} />],
                ["Hub", `${name} ${version}`],
              ]}
            />
            <Text size="xs" c="dimmed" mt="sm">
              Receipts are signed with it. A hub could show any key here: auditors compare it with what its operator told
              them another way.
            </Text>
          </>
        )}
      </QueryView>
    </Panel>
  );
}
