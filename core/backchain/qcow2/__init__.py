"""The qcow2 format: read and written by backchain itself, to QEMU's specification."""
