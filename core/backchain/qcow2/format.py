"""Every constant of the qcow2 format that backchain uses, named as QEMU's specification names it.

Source: ``docs/interop/qcow2.txt`` of QEMU; the section is given with each group. All numbers on disk are big-endian.
"""

from __future__ import annotations

import struct
from typing import Final

# Section "Header".
MAGIC: Final = 0x514649FB
HEADER_V2: Final = struct.Struct(">IIQIIQIIQQIIQ")
"""magic, version, backing_file_offset, backing_file_size, cluster_bits, size, crypt_method, l1_size, l1_table_offset,
refcount_table_offset, refcount_table_clusters, nb_snapshots, snapshots_offset."""
HEADER_V3: Final = struct.Struct(">QQQII")
"""incompatible_features, compatible_features, autoclear_features, refcount_order, header_length."""
CLUSTER_BITS_OFFSET: Final = 20
SIZE_OFFSET: Final = 24
L1_FIELDS_OFFSET: Final = 36
"""l1_size and l1_table_offset, bytes from the start of the file, as the others are."""
REFTABLE_FIELDS_OFFSET: Final = 48
"""refcount_table_offset and refcount_table_clusters."""
AUTOCLEAR_OFFSET: Final = 88
HEADER_V2_LENGTH: Final = HEADER_V2.size
HEADER_V3_LENGTH: Final = HEADER_V2.size + HEADER_V3.size
MAX_BACKING_FILE_SIZE: Final = 1023
MIN_CLUSTER_BITS: Final = 9
MAX_CLUSTER_BITS: Final = 21
"""QEMU's limits; the specification knows none above."""
MAX_REFCOUNT_ORDER: Final = 6
MAX_L1_BYTES: Final = 32 * 1024 * 1024
MAX_REFCOUNT_TABLE_BYTES: Final = 8 * 1024 * 1024
MAX_SNAPSHOTS: Final = 65536

# Section "Header", incompatible_features.
INCOMPAT_DIRTY: Final = 1 << 0
INCOMPAT_CORRUPT: Final = 1 << 1
INCOMPAT_DATA_FILE: Final = 1 << 2
INCOMPAT_COMPRESSION: Final = 1 << 3
INCOMPAT_EXTL2: Final = 1 << 4
INCOMPAT_KNOWN: Final = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_DATA_FILE | INCOMPAT_COMPRESSION | INCOMPAT_EXTL2

# compatible_features and autoclear_features.
COMPAT_LAZY_REFCOUNTS: Final = 1 << 0
AUTOCLEAR_BITMAPS: Final = 1 << 0
AUTOCLEAR_DATA_FILE_RAW: Final = 1 << 1
AUTOCLEAR_KNOWN: Final = AUTOCLEAR_BITMAPS | AUTOCLEAR_DATA_FILE_RAW

COMPRESSION_ZLIB: Final = 0
COMPRESSION_ZSTD: Final = 1

# Section "Header extensions".
EXT_END: Final = 0x00000000
EXT_BACKING_FORMAT: Final = 0xE2792ACA
EXT_FEATURE_NAMES: Final = 0x6803F857
EXT_BITMAPS: Final = 0x23852875
EXT_LUKS: Final = 0x0537BE77
EXT_DATA_FILE: Final = 0x44415441
EXT_BASE_MARK: Final = 0x42434650
"""Backchain's own ("BCFP"): see `backchain.basemark`. The specification knows no such type."""

# Sections "L1 table entry" and "L2 table entry".
OFLAG_COPIED: Final = 1 << 63
OFLAG_COMPRESSED: Final = 1 << 62
OFLAG_ZERO: Final = 1 << 0
OFFSET_MASK: Final = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55: host offset in L1 entries, in standard L2 entries and in those of bitmap tables."""
REFTABLE_OFFSET_MASK: Final = 0xFFFF_FFFF_FFFF_FE00

# Section "Extended L2 Entries".
SUBCLUSTERS_PER_CLUSTER: Final = 32
MIN_EXTL2_CLUSTER_BITS: Final = 14

# Section "Snapshots".
SNAPSHOT_HEADER: Final = struct.Struct(">QIHHIIQII")
"""l1_table_offset, l1_size, id_str_size, name_size, date_sec, date_nsec, vm_clock_nsec, vm_state_size,
extra_data_size."""

# Section "Bitmaps".
BITMAPS_EXTENSION: Final = struct.Struct(">IIQQ")
"""nb_bitmaps, reserved, bitmap_directory_size, bitmap_directory_offset."""
BITMAP_DIRECTORY_ENTRY: Final = struct.Struct(">QIIBBHI")
"""bitmap_table_offset, bitmap_table_size, flags, type, granularity_bits, name_size, extra_data_size."""
BITMAP_IN_USE: Final = 1 << 0
MAX_BITMAPS: Final = 65535
MAX_BITMAP_DIRECTORY_SIZE: Final = 64 * 1024 * 1024

SECTOR: Final = 512
"""Unit of a compressed cluster's length, and of QEMU's image sizes, in bytes."""
