package registry

import (
	"context"
	"io"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
)

// distributionAt is CNCF distribution which keeps things in a folder: large ones take linear time there.
func distributionAt(dir string) http.Handler {
	logrus.SetOutput(io.Discard)
	c := &configuration.Configuration{
		Version: "0.1",
		Storage: configuration.Storage{
			"filesystem":  configuration.Parameters{"rootdirectory": dir},
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	c.Log.Level = "panic"
	c.Log.AccessLog.Disabled = true
	c.HTTP.Secret = "a test's registry has no secrets"
	return handlers.NewApp(context.Background(), c)
}
