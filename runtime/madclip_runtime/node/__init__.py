"""`madclip-node`: stands behind Orthanc, takes new studies from it, and stores results back into the same studies.

Orthanc does all of DICOM's network: associations, TLS, who may send, storage. The node asks it over HTTP on the same
machine. What this package does not know: how to read an image or run a bundle (the runtime does). docs/hospital.md says
how it is set up, docs/conformance.md what it writes.
"""
