package mysqld

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writableByPersisted refuses a data directory in which SET PERSIST has turned a
// read-only variable off: persisted values win over the configuration file, and
// the server would take writes from its first breath.
func writableByPersisted(data string) error {
	path := filepath.Join(data, "mysqld-auto.cnf")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("%s cannot be read: %w", path, err)
	}
	for _, name := range []string{"super_read_only", "read_only"} {
		if off(tree, name) {
			return fmt.Errorf("%s is persisted as OFF, so it would start writable; take it out of %s", name, path)
		}
	}
	return nil
}

// off looks for a variable at any depth: the layout of the file differs between
// versions, the {"Value": ...} of a variable does not.
func off(tree any, name string) bool {
	object, ok := tree.(map[string]any)
	if !ok {
		return false
	}
	for key, sub := range object {
		if strings.EqualFold(key, name) {
			if v, ok := sub.(map[string]any); ok {
				value, _ := v["Value"].(string)
				return strings.EqualFold(value, "OFF") || value == "0"
			}
		}
		if off(sub, name) {
			return true
		}
	}
	return false
}
