export function ReceiptsPage() { return <p>ReceiptsPage is being written</p>; }
