from clear.engine.continual_runner import ContinualRunner

__all__ = ['ContinualRunner']
