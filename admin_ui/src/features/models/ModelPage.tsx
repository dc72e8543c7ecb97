export function ModelPage() { return <p>ModelPage is being written</p>; }
