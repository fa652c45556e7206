package keys

import (
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// The way of a publisher, with a key in a file: what every key service is measured against.
func TestFileKey(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			key := "file:" + d.file("release.key", certtest.KeyPEM(certtest.Key(algorithm)))
			chain := d.certified(t, key)
			d.signs(t, key, "1", "--chain", chain)
			d.refused(t, 3, "key-mismatch", []string{"release.key"}, "sign", d.ref, "--key", key, "--chain", d.chainFor(certtest.Key("P-256").Public(), "other"))
		})
	}
}
