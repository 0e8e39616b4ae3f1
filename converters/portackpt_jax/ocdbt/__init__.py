"""OCDBT: a B+tree of keys and values in a few files, as TensorStore keeps it under Orbax.

Source: tensorstore/kvstore/ocdbt/index.rst and tensorstore/kvstore/ocdbt/format/*.cc of
google/tensorstore (the prose leaves out `manifest_kind`).

    manifest.ocdbt   the frame below around: config, data file table, versions, version nodes
    d/*              values as they are, and B+tree nodes, each in the frame below

    frame     magic uint32 big-endian │ length uint64 │ version varint = 0 │ compression varint
              │ body, plain (0) or one zstd stream (1) │ CRC-32C of all before it, uint32
    config    uuid [16] │ manifest_kind u8 │ max_inline_value_bytes │ max_decoded_node_bytes
              │ version_tree_arity_log2 u8 │ compression [│ zstd level int32]
    files     count │ prefix length × (count - 1) │ suffix length × count │ base length × count
              │ suffixes; a path is transitive base + base + relative, `transitive base` being the
              base of the path through which this table was reached
    versions  count │ generation × n │ height u8 × n │ file │ offset │ length │ keys │ tree bytes
              │ value bytes (each × n) │ commit time uint64 × n
    node      height u8 │ files │ count │ key prefix length × (count - 1)
              │ key suffix length × count
              leaf:     │ suffixes │ value length × n │ kind u8 × n (0 here, 1 in a file)
                        │ file, offset (each × values in a file) │ the values that are here
              interior: │ common prefix length × n │ suffixes │ file │ offset │ length │ keys
                        │ tree bytes │ value bytes (each × n)

Numbers without a width are varints (LEB128); fixed ones are little-endian but for the magic.
"""
