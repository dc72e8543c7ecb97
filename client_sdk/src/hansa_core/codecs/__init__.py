"""How an update travels: as exact tensors, or encoded to take less of a site's uplink."""
