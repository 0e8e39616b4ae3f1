"""Zarr arrays, versions 2 and 3, over any store of keys: metadata, chunk grid, codecs.

Sources: zarr-specs (v2, v3, the sharding_indexed, zstd, gzip and crc32c codecs) and TensorStore's
`zarr` and `zarr3` drivers, which add the dtypes of ml_dtypes under their own names.

    version 2   KEY/.zarray            {"shape", "chunks", "dtype", "order", "fill_value",
                                        "compressor", "filters", "dimension_separator"}
                KEY/0.1, KEY/0 (0-d)   a chunk; chunks at the edge are as large as the others
    version 3   KEY/zarr.json          {"shape", "chunk_grid", "chunk_key_encoding", "data_type",
                                        "fill_value", "codecs"}
                KEY/c/0/1, KEY/c (0-d)
    sharded     inner chunks one after another, then for each of them (offset, length) as two
                uint64, both 2^64 - 1 where there is none, then the CRC-32C of that index

A codec not named in `codecs` is refused; no codec of a file is looked up anywhere else.
"""
