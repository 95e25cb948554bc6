"""How good a policy is: in a simulator, on a robot, on recorded films; and how sure that is."""
