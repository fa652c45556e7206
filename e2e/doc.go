// Package e2e tells stories of imprint against real registries and lets the stock verifier judge them.
//
// testdata/ holds the stories, one file each; every one runs against a registry with the referrers API, one without,
// and an OCI layout (script_test.go says which verbs a story may use). Cases that were thought of before the code was
// are in cases_*_test.go, one subtest each, its id in the name. [github.com/imprint-oci/imprint/e2e/judge] is
// notation-go as a verifier, and e2e/demo the story that `make demo` tells.
package e2e
