export function CheckpointPage() { return <p>CheckpointPage is being written</p>; }
