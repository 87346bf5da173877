//! To come with the simulator: faults on several processors at once, and against writers of the map.
